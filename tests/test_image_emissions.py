"""Emissions of images: exact densities, constant pixels, ranges and every public method."""

import warnings

import models
import numpy as np
import oracles
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import layers, registry
from tfp_dvbf.layers import image_emissions

IMAGE = (6, 5, 1)
EMISSIONS = pytest.mark.parametrize("name", ["image_gaussian", "image_bernoulli"])
Z = tf.random.stateless_normal([2, 5, 3], [0, 1])


def make(name, **settings):
    emission = registry.class_of("emission", name)(**{"filters": (4,), **settings})
    emission.build(layers.Spec(IMAGE, 1, 3))
    return emission


def images(seed=0, low=0, high=256, shape=(3, 6)):
    return np.random.default_rng(seed).integers(low, high, [*shape, *IMAGE]).astype(np.uint8)


@EMISSIONS
def test_layer_battery(name):
    oracles.check_layer(make(name), lambda p: p(Z).log_prob(tf.ones([2, 5, *IMAGE])))


@pytest.mark.parametrize("scale", [None, 0.2])
def test_the_gaussian_density_is_exact(scale):
    emission = make("image_gaussian", low=10.0, high=90.0, scale=scale, scale_floor=0.03)
    x = 10.0 + 80.0 * tf.random.stateless_uniform([2, 5, *IMAGE], [0, 2])
    mean = 10.0 + 80.0 * scipy.special.expit(emission.network(Z))
    deviation = 80.0 * (0.2 if scale else 0.1 + 0.03)
    expected = scipy.stats.norm.logpdf(x, mean, deviation).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(emission(Z).log_prob(x), expected, rtol=1e-4)
    innovation = np.arcsinh((x - mean) / deviation).reshape(2, 5, 30)
    np.testing.assert_allclose(emission.innovation(Z, x), innovation, rtol=1e-4, atol=1e-5)
    assert len(emission.trainable_weights) == len(emission.network.weights) + (scale is None)


def test_the_bernoulli_density_is_exact_and_its_logits_are_bounded():
    emission = make("image_bernoulli")
    x = tf.cast(tf.random.stateless_normal([2, 5, *IMAGE], [0, 3]) > 0, tf.float32)
    logits = emission.network(Z).numpy()
    p = scipy.special.expit(10.0 * np.tanh(logits / 10.0))
    x = x.numpy()
    expected = scipy.stats.bernoulli.logpmf(x, p).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(emission(Z).log_prob(x), expected, rtol=1e-4)
    np.testing.assert_allclose(
        emission.innovation(Z, x), (x - p).reshape(2, 5, 30), rtol=1e-4, atol=1e-6
    )
    emission.network.convolutions[-1].bias.assign([1e6])
    bound = image_emissions.LOGIT_BOUND
    worst = np.prod(IMAGE) * scipy.special.log_expit(-bound)
    np.testing.assert_allclose(emission(Z).log_prob(tf.zeros(IMAGE)), worst, rtol=1e-3)


def test_one_pixel_that_changes_is_not_drowned_by_those_that_do_not():
    """The gradient of the mean of a pixel depends on its own error and the common scale alone."""
    emission = make("image_gaussian")
    emission.raw_scale.assign(-100.0)
    density = emission(Z)
    mean = density.mean()
    x = mean.numpy()
    x[..., 2, 3, 0] += 5.0
    with tf.GradientTape() as tape:
        tape.watch(mean)
        log_prob = tf.reduce_sum(density.distribution.copy(loc=mean).log_prob(x))
    gradient = tape.gradient(log_prob, mean).numpy()
    expected = np.zeros_like(x)
    expected[..., 2, 3, 0] = 5.0 / (255.0 * emission.scale_floor) ** 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_images_that_leave_their_range_unused_give_a_warning():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, [4, 3, 8, 8, 1]).astype(np.uint8)
    images[..., 0, 0, 0] = 0  # One that never changes.
    sparse = np.where(rng.random(images.shape) < 0.01, np.uint8(255), np.uint8(0))
    model = models.make((8, 8, 1), 0, 2, emission="image_gaussian", encoder="convolutional")
    with pytest.warns(UserWarning, match="All pixels are close to 0, .* its `low` and `high`"):
        model.adapt({"observations": images / 255.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.adapt({"observations": images})
        model.adapt({"observations": sparse})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"low": 1.0, "high": 1.0}, "`low` must be less than `high`, both finite; got 1.0 and 1.0"),
        ({"high": np.inf}, "`low` must be less than `high`, both finite; got 0.0 and inf"),
        ({"low": "0"}, "`low` and `high` must be numbers; got '0' and 255.0"),
        ({"low": None}, "`low` and `high` must be numbers; got None and 255.0"),
        ({"high": [255]}, r"`low` and `high` must be numbers; got 0.0 and \[255\]"),
        ({"high": True}, "`low` and `high` must be numbers; got 0.0 and True"),
        ({"scale": 0.0}, r"`scale` must lie in \(0, 1\), a fraction of the range; got 0.0"),
        ({"scale": 255}, r"`scale` must lie in \(0, 1\), a fraction of the range; got 255"),
        ({"scale": "0.1"}, r"`scale` must lie in \(0, 1\), a fraction of the range; got '0.1'"),
        ({"scale_floor": 0.0}, r"`scale_floor` must lie in \(0, 1\); got 0"),
        ({"scale_floor": -1}, r"`scale_floor` must lie in \(0, 1\); got -1"),
        ({"filters": (0,)}, "`filters` must be a sequence of positive integers"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        layers.ImageGaussian(**settings)


@EMISSIONS
def test_vectors_are_refused(name):
    with pytest.raises(ValueError, match=r"must be \(height, width, channels\) for Image.*\(3,\)"):
        registry.class_of("emission", name)().build(layers.Spec((3,), 1, 2))


def model_of(emission, observation_shape=IMAGE, **parts):
    parts = {"encoder": layers.ConvolutionalEncoder((8,), filters=(4,)), **parts}
    parts.setdefault("transition", layers.MLPTransition((8,)))
    return tfp_dvbf.DVBF(observation_shape, 1, 3, emission=emission, seed=1, **parts)


@pytest.mark.parametrize(
    "emission, message",
    [
        (layers.ImageGaussian(low=20, high=200), "`observations` must be from 20 to 200 for the"),
        (layers.ImageBernoulli(), "`observations` must be 0 or 1 for the image_bernoulli emission"),
    ],
)
def test_pixels_out_of_range_are_refused_in_arrays_and_in_graphs(emission, message):
    model = model_of(emission)
    u = np.zeros([3, 5, 1], np.float32)
    bad = {"observations": images(), "controls": u}
    with pytest.raises(ValueError, match=message):
        model.sample_posterior(images(), u)
    with pytest.raises(ValueError, match=message):
        model.adapt(tf.data.Dataset.from_tensors(bad))


def test_images_of_another_size_are_refused_in_one_line():
    model = model_of(layers.ImageGaussian(low=0, high=255))
    other = {"observations": images()[:, :, :4, :4], "controls": np.zeros([3, 5, 1], np.float32)}
    for given in [other, tf.data.Dataset.from_tensors(other)]:
        with pytest.raises(ValueError, match=r"must have shape \[") as refusal:
            model.adapt(given)
        assert str(refusal.value).startswith("`observations`")
        assert "\n" not in str(refusal.value)


def test_missing_images_lie_in_no_range():
    """They are stored as 0, which need not be a value of the emission."""
    model = model_of(layers.ImageGaussian(low=20, high=200))
    x, u = images(low=20, high=201), np.zeros([3, 5, 1], np.float32)
    mask = np.ones([3, 6], bool)
    mask[0, 3:] = mask[1, 2] = False
    x[~mask] = 0
    terms = model.bound_terms(x, u, seed=1, mask=mask)
    assert np.all(np.isfinite(terms.nll)) and np.all(terms.nll.numpy()[0][~mask] == 0)
    context = model.forecast(x[:, :4], u, seed=1, mask=mask[:, :4])
    assert np.all(np.isfinite(context.observations))
    belief = model.filter_init(x[:, :1] + 20 * (x[:, :1] < 20), 4, seed=1)
    belief = model.filter_step(belief, x[:, 3], u[:, 0], observed=mask[:, 3], seed=1)
    assert np.all(np.isfinite(belief["predicted_observation_mean"]))


@pytest.mark.parametrize("name", models.marked(["image_gaussian"], ["image_bernoulli"]))
def test_images_are_trained_saved_exported_and_streamed(name, tmp_path):
    """From uint8 arrays through a folder of shards to a stream, constant pixels among them."""
    x = images(high=2 if name == "image_bernoulli" else 256)
    x[..., 0, :, :] = 1
    u = np.random.default_rng(1).normal(size=[3, 5, 1]).astype(np.float32)
    (tmp_path / "shards").mkdir()
    for part in range(2):
        tfp_dvbf.save(tmp_path / "shards" / f"{part}.npz", tfp_dvbf.Sequences(x, u))
    dataset = tfp_dvbf.as_dataset(tmp_path / "shards", batch_size=3)
    assert dataset.element_spec["observations"].dtype == tf.uint8
    model = model_of(name, initial_posterior=layers.ConvolutionalInitialPosterior(2, filters=(4,)))
    model.adapt(dataset)
    model.compile("adam")
    assert np.isfinite(model.fit(dataset, verbose=0).history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(model.sample_posterior(x, u, seed=1), loaded.sample_posterior(x, u, seed=1)):
        np.testing.assert_array_equal(a, b)
    tfp_dvbf.export(model, tmp_path / "exported", signatures=["filter_step", "forecast"])
    exported = tfp_dvbf.load_exported(tmp_path / "exported")
    belief = model.filter_init(x[:, :2], 4, seed=1)
    step = model.filter_step(belief, x[:, 2], u[:, 1], seed=2)
    assert step["predicted_observation_mean"].shape == (3, *IMAGE)
    signature = exported.signatures["filter_step"]
    assert exported.metadata["signatures"]["filter_step"] is None
    given = signature.structured_input_signature[1]
    assert given["observations"].shape[-3:] == IMAGE
