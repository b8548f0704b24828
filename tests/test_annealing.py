"""KL annealing: its line, what a later `fit` does to it, and what it refuses."""

import models
import numpy as np
import pytest
import tf_keras
from test_callbacks import compiled

from tfp_dvbf import callbacks, data
from tfp_dvbf.data import batching


@pytest.fixture(scope="module")
def sequences():
    """Returns 12 sequences of 3 steps, since an eager update costs as much as it has steps."""
    return data.Sequences(models.pendulum().observations[:, :3], models.pendulum().controls[:, :2])


@pytest.mark.parametrize("initial", [0.2, 20.0])
def test_annealing_is_monotone(make_model, sequences, initial):
    """The KL weight rises linearly, or the likelihood's share does, which is its inverse."""
    model = compiled(make_model, sequences)
    annealing = callbacks.KLAnnealing(num_epochs=4, initial_weight=initial)
    weights = []
    record = tf_keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: weights.append(float(model.kl_weight))
    )
    dataset = batching.as_dataset(sequences, 4)
    history = model.fit(dataset, epochs=6, verbose=0, callbacks=[annealing, record]).history
    line = np.minimum(1.0, np.arange(18) / 12)
    expected = 0.2 + 0.8 * line if initial < 1 else 1 / (0.05 + 0.95 * line)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    np.testing.assert_allclose(history["kl_weight"], expected[2::3], rtol=1e-6)
    assert callbacks.KLAnnealing(0).weight(0, 10) == 1.0  # Over no epochs at all.


def test_annealing_never_falls_until_the_model_is_compiled_anew(make_model, sequences):
    model = compiled(make_model, sequences)
    annealing = callbacks.KLAnnealing(num_epochs=4)

    def anneal(batch_size, epochs):
        dataset = batching.as_dataset(sequences, batch_size)
        history = model.fit(dataset, epochs=epochs, verbose=0, callbacks=[annealing]).history
        return history["kl_weight"]

    np.testing.assert_allclose(anneal(12, epochs=3), [0.0, 1 / 4, 2 / 4])
    # Three steps an epoch: the line is at 3 / 12 now, and passes 2 / 4 after step 6.
    expected = [0.5, 8 / 12, 11 / 12, 1.0]
    np.testing.assert_allclose(anneal(4, epochs=4), expected, rtol=1e-6)
    model.compile(jit_compile=False)
    np.testing.assert_allclose(anneal(12, epochs=2), [0.0, 1 / 4])


def test_tempering_leaves_a_trained_model_at_weight_one(make_model, sequences):
    model = compiled(make_model, sequences)
    dataset, chain = batching.as_dataset(sequences, 12), [callbacks.KLAnnealing(9, 20.0)]
    model.fit(dataset, epochs=1, verbose=0)
    history = model.fit(dataset, epochs=2, verbose=0, callbacks=chain).history
    np.testing.assert_array_equal(history["kl_weight"], 1.0)


def test_early_stopping_waits_for_annealing_as_documented(make_model, sequences):
    """With a metric that gets worse in every epoch while the KL weight rises."""
    epochs = {}
    for start in [0, 3]:
        model = compiled(make_model, sequences)
        stop = tf_keras.callbacks.EarlyStopping("kl_weight", mode="min", start_from_epoch=start)
        dataset = batching.as_dataset(sequences, 12)
        chain = [callbacks.KLAnnealing(3), stop]
        epochs[start] = model.fit(dataset, epochs=9, verbose=0, callbacks=chain).epoch
    assert epochs == {0: [0, 1], 3: [0, 1, 2, 3, 4]}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((-1,), "`num_epochs` must be finite and not negative; got -1"),
        ((np.nan,), "`num_epochs` must be finite and not negative; got nan"),
        ((1, -0.5), "`initial_weight` must be finite and not negative; got -0.5"),
        ((1, np.inf), "`initial_weight` must be finite and not negative; got inf"),
    ],
)
def test_annealing_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        callbacks.KLAnnealing(*arguments)


def test_annealing_needs_the_length_of_an_epoch(make_model, sequences):
    model = compiled(make_model, sequences)
    unknown = batching.as_dataset(sequences).filter(lambda batch: True)
    with pytest.raises(ValueError, match="needs to know the steps in an epoch"):
        model.fit(unknown, epochs=1, verbose=0, callbacks=[callbacks.KLAnnealing(3)])


@pytest.mark.parametrize("first, second", [(20.0, 0.0), (0.0, 20.0)])
def test_a_second_annealing_from_the_other_side_of_1_reaches_it(
    make_model, sequences, first, second
):
    model = compiled(make_model, sequences)
    dataset, weights = batching.as_dataset(sequences, 12), []
    for initial in (first, second):
        chain = [callbacks.KLAnnealing(5, initial)]
        weights += model.fit(dataset, epochs=3, verbose=0, callbacks=chain).history["kl_weight"]
    weights += model.fit(dataset, epochs=1, verbose=0, callbacks=chain).history["kl_weight"]
    distance = np.abs(np.log(np.maximum(weights, 1e-9)))
    assert np.all(np.diff(distance) < 1e-6) and weights[-1] == 1
