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

    def __init__(self, mean, scale, transition):
        self.mean, self.scale = mean, scale
        self.state_space_model = state_space_model.StateSpaceModel((1,), 1, 2, transition)

    def sample_posterior(self, observations, controls, num_samples, seed, mask):
        assert observations.shape[:2] == self.mean.shape[:2]
        rng = np.random.default_rng(seed)
        shape = [num_samples, *self.mean.shape]
        noise = np.float32(self.mean + self.scale * rng.standard_normal(shape))
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

    monkeypatch.setattr(collapse, "ROWS", 3 * NUM_SEQUENCES * NUM_STEPS)
    mean = np.random.default_rng(0).normal(size=[NUM_SEQUENCES, NUM_STEPS, 2])
    model = KnownNoise(mean, 0.4, Counted())
    sizes.clear()
    found = evaluation.active_units(model, system(), num_draws=20)
    assert max(sizes) == 3 * NUM_SEQUENCES * (NUM_STEPS - 1)
    monkeypatch.setattr(collapse, "ROWS", 1)
    alone = evaluation.active_units(model, system(), num_draws=20)
    np.testing.assert_allclose(found.noise, alone.noise, atol=1e-5)
    monkeypatch.setattr(collapse, "STEPS", 20 * 5)
    monkeypatch.setattr(collapse, "VALUES", 20 * 5 * 3 * 7)
    model.mean = mean[:7, :5]
    first = evaluation.active_units(model, system(), num_draws=20)
    np.testing.assert_allclose(first.initial, np.square(mean[:7, 0]).mean(axis=0), atol=0.3)


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


@pytest.mark.parametrize("as_arrays", [False, True])
@pytest.mark.usefixtures("eagerly")
def test_fit_looks_once_the_model_has_had_its_updates(monkeypatch, as_arrays):
    """It has 2 updates an epoch; a `fit` that trains nothing looks at nothing."""
    seen = []

    def found(model, observations, controls, mask):
        seen.append((observations.shape, controls.shape, mask))
        return collapse.ActiveUnits(np.array([0.5, 0.001]), np.array([0.0, 0.002]))

    monkeypatch.setattr(collapse, "active_units", found)
    monkeypatch.setattr(collapse, "UPDATES", 4)
    sequences = system()[:6]
    dataset = batching.as_dataset(sequences, 3, seed=1)
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    model = models.adapted(tfp_dvbf.DVBF(1, 1, 2, seed=1), sequences)
    model.compile()
    x = arrays if as_arrays else dataset
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, batch_size=3 if as_arrays else None, verbose=0)
        assert not seen
    with pytest.warns(UserWarning, match=r"has collapsed, z\[1\]: ") as caught:
        model.fit(x, batch_size=3 if as_arrays else None, verbose=0)
    assert caught[0].filename == __file__
    rows = 6 if as_arrays else 3
    assert seen == [((rows, 20, 1), (rows, 19, 1), None)]
    model.fit(dataset, epochs=1, initial_epoch=1, verbose=0)
    assert len(seen) == 1


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
