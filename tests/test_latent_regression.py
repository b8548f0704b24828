import numpy as np
import pytest
import tf_keras
from sklearn.linear_model import LinearRegression

import tfp_dvbf
from tfp_dvbf import layers
from tfp_dvbf.experiments import latent_regression


def test_r_squared_is_that_of_ordinary_least_squares():
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=[size, 3]) for size in (50, 40)]
    targets = [np.c_[z @ [1.0, 2.0, 0.5] + 3.0, z[:, 0] ** 2] for z in inputs]
    found = latent_regression.r_squared(*inputs, *targets)
    for column in range(2):
        model = LinearRegression().fit(inputs[0], targets[0][:, column])
        expected = model.score(inputs[1], targets[1][:, column])
        np.testing.assert_allclose(found[column], expected, atol=1e-10)
    np.testing.assert_allclose(found[0], 1.0)
    assert found[1] < 0.5


@pytest.mark.parametrize("observation, dim", [("position", 2), ("angle", 1)])
def test_what_is_observed_is_a_function_of_the_angle(monkeypatch, observation, dim):
    monkeypatch.setattr(latent_regression, "SIZES", {"train": 4, "validation": 3, "test": 5})
    sequences = latent_regression.collect(observation, "test")
    assert sequences.observations.shape == (5, 15, dim)
    sin, cos, velocity = np.moveaxis(latent_regression.true_state(sequences), -1, 0)
    expected = [cos, sin] if observation == "position" else [np.arctan2(sin, cos)]
    np.testing.assert_allclose(sequences.observations, np.stack(expected, axis=-1), atol=1e-5)
    np.testing.assert_array_equal(velocity, sequences.states[..., 1])


def test_the_splits_differ(monkeypatch):
    monkeypatch.setattr(latent_regression, "SIZES", dict.fromkeys(latent_regression.SIZES, 4))
    firsts = [latent_regression.collect("angle", split).states[:, 0] for split in ["train", "test"]]
    assert len(np.unique(np.concatenate(firsts), axis=0)) == 8


class Oracle:
    """A model whose posterior draws are the true state, mixed, in all steps but the first two."""

    class recognition_model:
        initial_steps = 2

    def __init__(self, sequences):
        self.truths = {len(s): latent_regression.true_state(s) for s in sequences}

    def sample_posterior(self, observations, controls, seed):
        truth = self.truths[len(observations)]
        mixed = truth @ np.array([[1.0, 0.0, 2.0], [0.5, 1.0, 0.0], [0.0, 0.3, 1.0]]) + 1.0
        mixed[:, :2] = 0.0
        return Draws(mixed)


class Draws:
    def __init__(self, states):
        self.states = self
        self.values = states

    def numpy(self):
        return self.values[np.newaxis]


def test_scores_of_a_state_that_is_the_truth(monkeypatch):
    monkeypatch.setattr(latent_regression, "SIZES", {"train": 30, "validation": 3, "test": 20})
    train, test = (latent_regression.collect("position", split) for split in ["train", "test"])
    row = latent_regression.score(Oracle([train, test]), train, test)
    assert set(row) == {
        f"r2_{name}{suffix}" for name in latent_regression.TARGETS for suffix in ["", "_later"]
    }
    for name in latent_regression.TARGETS:
        np.testing.assert_allclose(row[f"r2_{name}_later"], 1.0)
        assert row[f"r2_{name}"] < 1.0


def test_a_model_of_each_observation_hides_steps():
    for observation, share in [("pixels", 0.7), ("angle", 0.0)]:
        protocol = latent_regression.Protocol(hidden_steps=share)
        model = latent_regression.make_model(observation, 3, 1, protocol)
        assert (model.hidden_steps is None) == (share == 0.0)
        transition = model.state_space_model.transition
        assert isinstance(transition, layers.RotationTransition) and transition.learns_initial


def test_the_seed_decides_the_weights():
    """Whatever else the process has made: a start that is repeated is the same start."""
    protocol = latent_regression.Protocol()
    models = [latent_regression.make_model("position", 3, seed, protocol) for seed in (1, 2, 1)]
    first, other, again = (model.get_weights() for model in models)
    for values, repeated in zip(first, again):
        np.testing.assert_array_equal(values, repeated)
    assert any(np.any(values != others) for values, others in zip(first, other))


def test_a_position_is_linear_in_the_state():
    protocol = latent_regression.Protocol()
    models = {
        observation: latent_regression.make_model(observation, 3, 1, protocol).state_space_model
        for observation in ["position", "angle"]
    }
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 5, 3)).astype(np.float32)
    for name, model in models.items():
        assert model.emission.noise_floor == protocol.noise_floor
        at_a, at_b, at_sum, at_zero = (
            model.emission(z).mean().numpy() for z in [a, b, a + b, 0.0 * a]
        )
        linear = np.allclose(at_a + at_b, at_sum + at_zero, atol=1e-5)
        assert linear == (name == "position")


@pytest.mark.long
def test_images_train_from_any_seed():
    """20 seeds of 5 epochs, at the size of the protocol."""
    protocol = latent_regression.Protocol()
    dataset = tfp_dvbf.as_dataset(
        latent_regression.collect("pixels", "train"), protocol.batch_size, seed=1
    )
    for seed in range(20):
        model = latent_regression.make_model("pixels", 3, seed, protocol)
        model.adapt(dataset)
        model.compile(tf_keras.optimizers.Adam(protocol.learning_rate, clipnorm=10.0))
        losses = model.fit(dataset, epochs=5, verbose=0).history["loss"]
        assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]
        assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())
        tf_keras.backend.clear_session()
