"""Dead latent dimensions: found where the noise is known, and where the decoder ignores one."""

import types
import warnings

import models
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

import tfp_dvbf
from tfp_dvbf import collapse, data, evaluation
from tfp_dvbf.data import batching
from tfp_dvbf.layers import state_space_model

NUM_SEQUENCES, NUM_STEPS = 40, 20


class Decay(tfp_dvbf.layers.Transition):
    """p(z[t] | z[t-1], u[t-1]) = N(0.9 z[t-1] + (u[t-1], 0), 0.3^2 C), C the identity or not."""

    def __init__(self, factor=((0.3, 0.0), (0.0, 0.3)), **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, states, controls):
        moved = 0.9 * states + tf.pad(controls, [[0, 0]] * (controls.shape.rank - 1) + [[0, 1]])
        return tfp.distributions.MultivariateNormalTriL(moved, tf.constant(self.factor))


class FirstStateEmission(tfp_dvbf.layers.GaussianEmission):
    """A Gaussian emission whose decoder sees z[t][0] alone."""

    def build(self, spec):
        super().build(spec._replace(state_dim=1))

    def call(self, states):
        return super().call(states[..., :1])


def system(mask=None):
    """x[t] = z[t] + 0.1 v[t] of z[t] = 0.9 z[t-1] + u[t-1] + 0.3 w[t]."""
    rng = np.random.default_rng(1)
    controls = rng.normal(size=[NUM_SEQUENCES, NUM_STEPS - 1, 1])
    states = rng.normal(size=[NUM_SEQUENCES, 1])
    states = [states]
    for t in range(NUM_STEPS - 1):
        states.append(0.9 * states[-1] + controls[:, t] + 0.3 * rng.normal(size=states[0].shape))
    x = np.stack(states, axis=1) + 0.1 * rng.normal(size=[NUM_SEQUENCES, NUM_STEPS, 1])
    return data.Sequences(x, controls, mask=mask)


class KnownNoise:
    """A model whose posterior draws have the noise w ~ N(mean, scale^2)."""

    def __init__(self, mean, scale, transition, initial_steps=1):
        self.mean, self.scale, self.seen = mean, scale, []
        self.recognition_model = types.SimpleNamespace(initial_steps=initial_steps)
        self.state_space_model = state_space_model.StateSpaceModel((1,), 1, 2, transition)

    def sample_posterior(self, observations, controls, num_samples, seed, mask):
        self.seen.append((observations, controls, mask))
        rows, steps = observations.shape[:2]
        rng = np.random.default_rng(seed)
        mean = self.mean[:rows, :steps]
        noise = rng.standard_normal([num_samples, *mean.shape])
        noise = np.float32(mean + self.scale * noise)
        states = [tf.constant(noise[:, :, 0])]
        for t in range(1, noise.shape[2]):
            prior = self.state_space_model.transition_distribution(
                states[-1], tf.repeat(tf.constant(controls)[tf.newaxis, :, t - 1], num_samples, 0)
            )
            states.append(prior.loc + prior.scale.matvec(noise[:, :, t]))
        return types.SimpleNamespace(states=tf.stack(states, axis=2))


@pytest.mark.parametrize("factor", [((0.3, 0.0), (0.0, 0.3)), ((0.3, 0.0), (0.5, 0.1))])
@pytest.mark.parametrize("masked", [False, True])
def test_the_posterior_mean_of_the_noise_is_found(factor, masked):
    """Its scale differs from that of the prior, and what stands in missing steps does not count."""
    rng = np.random.default_rng(0)
    mask = np.ones([NUM_SEQUENCES, NUM_STEPS], bool)
    mask[:, 7] = not masked
    mean = rng.normal(size=[NUM_SEQUENCES, NUM_STEPS, 2]) * [0.5, 0.0]
    counted = mean[:, mask[0]]
    mean[~mask] = 10.0
    found = evaluation.active_units(
        KnownNoise(mean, np.array([0.4, 1.0]), Decay(factor)), system(mask), num_draws=20
    )
    expected = np.square(counted)
    np.testing.assert_allclose(found.initial, expected[:, :1].mean(axis=(0, 1)), atol=0.03)
    np.testing.assert_allclose(found.noise, expected[:, 1:].mean(axis=(0, 1)), atol=0.01)
    assert found.noise[0] > 0.2 and abs(found.noise[1]) < 0.008
    assert 0 not in found.dead


def test_few_transitions_are_held_at_a_time(monkeypatch):
    """A record of 40,000 steps has 4 million states in 100 draws, each with the layers of one."""
    sizes = []

    class Counted(Decay):
        def call(self, states, controls):
            sizes.append(int(np.prod(states.shape[:-1])))
            return super().call(states, controls)

    mean = np.random.default_rng(0).normal(size=[NUM_SEQUENCES, NUM_STEPS, 2])
    model = KnownNoise(mean, 0.4, Counted())
    found = []
    for draws_at_once in [20, 3]:
        monkeypatch.setattr(collapse, "ROWS", draws_at_once * NUM_SEQUENCES * NUM_STEPS)
        sizes.clear()
        found.append(evaluation.active_units(model, system(), num_draws=20))
        assert max(sizes) == draws_at_once * NUM_SEQUENCES * (NUM_STEPS - 1)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("initial_steps, steps", [(1, 5), (7, 7)])
def test_of_long_records_the_first_steps_that_are_observed_are_used(
    monkeypatch, initial_steps, steps
):
    monkeypatch.setattr(collapse, "STEPS", 20 * 5)
    monkeypatch.setattr(collapse, "VALUES", 20 * steps * 3 * 2)
    mask = np.ones([NUM_SEQUENCES, NUM_STEPS], bool)
    mask[:, :8] = False
    mask[[0, 2], :16] = False  # Too late for what is used.
    mask[3, 9] = False
    mean = np.ones([NUM_SEQUENCES, NUM_STEPS, 2])
    model = KnownNoise(mean, 0.4, Decay(), initial_steps)
    found = evaluation.active_units(model, system(mask), num_draws=20)
    whole = system(mask)
    observations, controls, seen = model.seen[0]
    np.testing.assert_array_equal(observations, whole.observations[[1, 3], 8 : 8 + steps])
    np.testing.assert_array_equal(controls, whole.controls[[1, 3], 8 : 7 + steps])
    np.testing.assert_array_equal(seen, mask[[1, 3], 8 : 8 + steps])
    np.testing.assert_allclose(found, 1.0, atol=0.5)


def test_late_observations_still_leave_what_the_posterior_needs(tmp_path):
    mask = np.zeros([NUM_SEQUENCES, NUM_STEPS], bool)
    mask[:, -2:] = True
    data.save(tmp_path / "0.npz", system(mask))
    model = KnownNoise(np.ones([NUM_SEQUENCES, NUM_STEPS, 2]), 0.4, Decay(), initial_steps=6)
    evaluation.active_units(model, tfp_dvbf.Shards(tmp_path), num_draws=2)
    assert model.seen[0][0].shape == (NUM_SEQUENCES, 6, 1)


def test_a_dimension_is_dead_if_neither_its_first_state_nor_its_noise_moves():
    found = collapse.ActiveUnits(np.array([0.5, 0.0, 0.001, 0.02]), np.array([0.0, 0.4, -0.01, 0]))
    assert found.dead == [2]


@pytest.mark.slow
def test_what_the_decoder_ignores_collapses():
    tf_keras.utils.set_random_seed(3)
    posterior = tfp_dvbf.posteriors.Gaussian(hidden_units=(16,))
    emission = FirstStateEmission(hidden_units=())
    model = tfp_dvbf.DVBF(
        1, 1, 2, posterior=posterior, transition=Decay(), emission=emission, seed=3
    )
    models.adapted(model, system())
    rate = tf_keras.optimizers.schedules.CosineDecay(1e-2, 500)
    model.compile(tf_keras.optimizers.Adam(rate, clipnorm=10.0), jit_compile=False)
    with pytest.warns(UserWarning, match=r"1 of 2 latent dimensions has collapsed, z\[1\]: "):
        model.fit(batching.as_dataset(system(), 10, seed=1), epochs=125, verbose=0)
    found = evaluation.active_units(model, system())
    assert found.dead == [1] and found.noise[0] > 0.2


@pytest.fixture
def looks(monkeypatch):
    """Returns a list of the `Sequences` that `fit` looks at, from the fourth update on."""
    seen = []

    def found(model, sequences, num_draws):
        assert num_draws == 100 if len(sequences) > 16 else 1600 // len(sequences)
        seen.append(sequences)
        return collapse.ActiveUnits(np.array([0.5, 0.001]), np.array([0.0, 0.002]))

    monkeypatch.setattr(collapse, "measure", found)
    monkeypatch.setattr(collapse, "UPDATES", 4)
    return seen


def small_model():
    return tfp_dvbf.DVBF(1, 1, 2, seed=1)


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.usefixtures("eagerly")
def test_fit_looks_once_the_model_has_had_its_updates(looks, as_arrays):
    """It has 2 updates an epoch; a `fit` that trains nothing looks at nothing."""
    sequences = system()[:6]
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    arrays["weights"] = np.array([1.0, 0.0, 1.0, 2.0, 1.0, 0.0])
    x = arrays if as_arrays else tf.data.Dataset.from_tensor_slices(arrays).batch(3)
    model = small_model()
    model.adapt(x)
    model.compile()
    batch_size = 3 if as_arrays else None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*collapsed")
        model.fit(x, batch_size=batch_size, verbose=0)
    assert not looks
    with pytest.warns(UserWarning, match=r"has collapsed, z\[1\]: ") as caught:
        model.fit(x, batch_size=batch_size, verbose=0)
    assert caught[0].filename == __file__
    rows = [0, 2, 3, 4] if as_arrays else [0, 2]
    np.testing.assert_array_equal(looks[0].observations, sequences.observations[rows])
    np.testing.assert_array_equal(looks[0].controls, sequences.controls[rows])
    model.fit(x, epochs=1, initial_epoch=1, verbose=0)
    assert len(looks) == 1


@pytest.mark.usefixtures("eagerly")
def test_to_look_costs_no_epoch_of_the_data(looks):
    """The order of an epoch depends on how often the data set has been iterated over."""
    weights = []
    for epochs in [[4], [2, 2]]:
        dataset = batching.as_dataset(system()[:6], 3, seed=1)
        model = small_model()
        model.adapt(dataset)
        model.compile()
        for count in epochs:
            with pytest.warns(UserWarning, match="collapsed"):
                model.fit(dataset, epochs=count, verbose=0)
        weights.append(model.get_weights())
    assert len(looks) == 3
    for one, two in zip(*weights):
        np.testing.assert_array_equal(one, two)


@pytest.mark.usefixtures("eagerly")
def test_a_model_that_was_not_adapted_is_not_looked_at(looks):
    model = small_model()
    model.compile()
    model.fit(batching.as_dataset(system()[:6], 3), epochs=3, verbose=0)
    assert not looks


@pytest.mark.usefixtures("eagerly")
def test_a_model_without_controls_is_looked_at(monkeypatch):
    monkeypatch.setattr(collapse, "UPDATES", 1)
    monkeypatch.setattr(collapse, "THRESHOLD", 1e9)
    model = tfp_dvbf.DVBF(1, 0, 2, seed=1)
    dataset = tf.data.Dataset.from_tensors({"observations": system().observations[:4]})
    model.adapt(dataset)
    model.compile()
    with pytest.warns(UserWarning, match="2 of 2 latent dimensions have collapsed"):
        model.fit(dataset, verbose=0)


def test_one_line_names_the_dimensions():
    assert collapse.warning([], 4) is None
    line = collapse.warning([1, 3], 4)
    assert line.startswith("2 of 4 latent dimensions have collapsed, z[1], z[3]: ")
    assert "\n" not in line


def test_active_units_refuse():
    with pytest.raises(ValueError, match=r"`num_draws` must be at least 2; got 1\."):
        evaluation.active_units(None, system(), num_draws=1)
    with pytest.raises(ValueError, match=r"`sequences` must be Sequences or Shards; got ndarray"):
        evaluation.active_units(None, np.zeros([2, 3, 1]))
