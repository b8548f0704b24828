"""Default settings train at any length, and few steps are compiled whatever the lengths."""

import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf.data import batching, environments

LENGTHS = [("innovation", 1600), ("gaussian", 1600)]
LONGER = [("innovation", 5000), ("iaf", 2000), ("trajectory_iaf", 2000)]


def long_pendulum(num_sequences, num_steps):
    limit = {"max_episode_steps": num_steps}
    return environments.collect("Pendulum-v1", num_sequences, num_steps, seed=1, **limit)


def losses_of(posterior, sequences, epochs, **options):
    """Returns the mean losses of the epochs, trained as the README does."""
    model = tfp_dvbf.DVBF(3, 1, 4, posterior=posterior, seed=1, **options)
    dataset = batching.as_dataset(sequences, 4, seed=1)
    model.adapt(dataset)
    model.compile(tf_keras.optimizers.Adam(1e-3, clipnorm=10.0), jit_compile=False)
    annealing = [tfp_dvbf.KLAnnealing(10)]
    return model.fit(dataset, epochs=epochs, callbacks=annealing, verbose=0).history["loss"]


@pytest.mark.parametrize("posterior, num_steps", models.marked(LENGTHS, LONGER))
def test_thousands_of_steps(posterior, num_steps):
    """Without the bound of the states the second loss was 1e7 at 800 steps, and NaN at 1,600."""
    losses = losses_of(posterior, long_pendulum(8, num_steps), epochs=6)
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0] and losses[-1] < 200.0


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [{"transition": "locally_linear"}, {"transition": "rotation"}, {"encoder": "smoother"}],
)
def test_thousands_of_steps_of_other_parts(options):
    losses = losses_of("innovation", long_pendulum(8, 1600), epochs=6, **options)
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0] and losses[-1] < 200.0


def test_two_steps():
    losses = losses_of("innovation", long_pendulum(8, 2), epochs=3)
    assert np.all(np.isfinite(losses))


def count_traces(model, dataset):
    """Returns how often the training step was traced in an epoch; XLA compiles each trace once."""
    model.compile("adam", jit_compile=False)
    traces = []
    step = model.train_step

    def counted(data):
        traces.append(1)
        return step(data)

    model.train_step = counted
    model.fit(dataset, epochs=1, verbose=0)
    return len(traces)


def test_a_smaller_last_batch_compiles_nothing():
    sequences = models.pendulum()  # 12 of them: two batches of 5 and one of 2.
    model = models.adapted(models.small_model(), sequences)
    assert count_traces(model, batching.as_dataset(sequences, 5, seed=1)) == 1


def test_rows_of_weight_zero_count_for_nothing():
    """The loss of a filled batch is the one of its rows alone, and so are all metrics."""
    sequences = models.pendulum()
    model = models.adapted(models.small_model(), sequences)
    model.compile("adam", run_eagerly=True)
    filled = model.evaluate(batching.as_dataset(sequences, 12), verbose=0, return_dict=True)
    values = next(iter(batching.as_dataset(sequences, 12)))
    repeated = {name: tf.concat([tensor, tensor[:4]], axis=0) for name, tensor in values.items()}
    repeated["weights"] = tf.constant([1.0] * 12 + [0.0] * 4)
    repeated = tf.data.Dataset.from_tensors(repeated)
    terms = model.terms

    def terms_of_first_rows(batch, seed):
        """The noise of 12 rows for them; what the others get does not matter."""
        found = terms(type(batch)(*(x if x is None else x[:12] for x in batch)), seed)
        return type(found)(*(tf.concat([term, 1e6 + term[:, :4]], axis=1) for term in found))

    model.terms = terms_of_first_rows
    weighted = model.evaluate(repeated, verbose=0, return_dict=True)
    for name, value in filled.items():
        assert weighted[name] == pytest.approx(value, rel=1e-5)


def test_many_lengths_compile_few_steps():
    model = models.adapted(models.small_model(), models.pendulum())
    rng = np.random.default_rng(0)

    def batches():
        for steps in range(10, 42):
            x, u = rng.normal(size=[4, steps, 3]), rng.normal(size=[4, steps - 1, 1])
            yield {"observations": x.astype(np.float32), "controls": u.astype(np.float32)}

    spec = {
        "observations": tf.TensorSpec([4, None, 3], tf.float32),
        "controls": tf.TensorSpec([4, None, 1], tf.float32),
    }
    assert count_traces(model, tf.data.Dataset.from_generator(batches, output_signature=spec)) <= 4


def test_an_almost_constant_column_moves_no_other():
    """14.62 for ever in training, 14.65 in use: the forecast of the other column is the same."""
    sequences = models.pendulum()
    x, u = sequences.observations[..., :2].copy(), sequences.controls
    x[..., 1] = 14.62
    model = models.small_model("innovation", observation_shape=2)
    model.adapt({"observations": x, "controls": u})
    np.testing.assert_allclose(model.state_space_model.observation_standardization.scale[1], 1.0)
    expected = model.forecast(x[:, :4], u, num_samples=50, seed=1).observation_mean[..., 0]
    x[..., 1] = 14.65
    actual = model.forecast(x[:, :4], u, num_samples=50, seed=1).observation_mean[..., 0]
    np.testing.assert_allclose(actual, expected, atol=0.05)
    belief = model.filter_init(x[:, :1], 8, seed=1)
    x[..., 1] = 14.72
    belief = model.filter_step(belief, x[:, 1], u[:, 0], seed=1)
    assert np.all(np.isfinite(belief["log_evidence"]))


@pytest.mark.parametrize("unit", [1e-30, 1e-15, 1e15, 1e30])
def test_any_unit_gives_the_same_forecast(unit):
    sequences = models.pendulum()
    found = []
    for scale in [1.0, unit]:
        x, u = np.float32(scale) * sequences.observations, np.float32(scale) * sequences.controls
        model = models.small_model("innovation")
        model.adapt({"observations": x, "controls": u})
        drawn = model.forecast(x[:, :4], u, num_samples=3, seed=1).observations
        streamed = model.filter_init(x[:, :1], 8, seed=1)
        streamed = model.filter_step(streamed, x[:, 1], u[:, 0], seed=1)
        predicted = streamed["predicted_observation_mean"]
        spread = streamed["predicted_observation_scale"]
        found.append([np.asarray(values) / scale for values in (drawn, predicted, spread)])
    for expected, actual in zip(*found):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)
