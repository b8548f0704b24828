"""Sequences of many lengths are padded to few."""

import numpy as np
import pytest
import tensorflow as tf
from test_batching import numbered

from tfp_dvbf.data import batching


def of_lengths(lengths, masked=False, controls_too_long=False):
    """Returns a data set of batches of 2, one a length, the number of its step in every value."""

    def batches():
        for length in lengths:
            steps = np.broadcast_to(np.arange(1, length + 1)[:, np.newaxis], [2, length, 1])
            batch = {"observations": steps.astype(np.uint8), "weights": np.ones(2, np.float32)}
            batch["controls"] = steps[:, : length - 1 + controls_too_long].astype(np.float32)
            if masked:
                batch["mask"] = np.arange(length) != np.array([[0], [1]])
            yield batch

    specs = {
        "observations": tf.TensorSpec([2, None, 1], tf.uint8),
        "weights": tf.TensorSpec([2], tf.float32),
        "controls": tf.TensorSpec([2, None, 1], tf.float32),
    }
    if masked:
        specs["mask"] = tf.TensorSpec([2, None], tf.bool)
    return tf.data.Dataset.from_generator(batches, output_signature=specs)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("controls_too_long", [False, True])
def test_bucket_lengths_pads_with_missing_steps(masked, controls_too_long):
    lengths = {2: 16, 16: 16, 17: 32, 64: 64, 65: 128, 129: 512, 513: 2048, 2049: 8192}
    dataset = of_lengths(lengths, masked, controls_too_long)
    batches = list(batching.bucket_lengths(dataset))
    for batch, original, (length, bucket) in zip(batches, dataset, lengths.items(), strict=True):
        x, u, mask = (batch[name].numpy() for name in ["observations", "controls", "mask"])
        assert x.shape == (2, bucket, 1) and x.dtype == np.uint8
        assert u.shape == (2, bucket - 1, 1) and mask.shape == (2, bucket)
        np.testing.assert_array_equal(x[:, :length], original["observations"])
        np.testing.assert_array_equal(u[:, : length - 1], original["controls"][:, : length - 1])
        assert not x[:, length:].any() and not u[:, length - 1 :].any()
        expected = original["mask"] if masked else np.ones([2, length])
        np.testing.assert_array_equal(mask[:, :length], expected)
        assert not mask[:, length:].any()
        np.testing.assert_array_equal(batch["weights"], [1, 1])


def test_32_lengths_are_compiled_at_most_4_times():
    traces = []

    @tf.function(reduce_retracing=False)
    def step(batch):
        traces.append(batch["observations"].shape)
        return tf.reduce_sum(tf.cast(batch["mask"], tf.int32))

    counts = [int(step(batch)) for batch in batching.bucket_lengths(of_lengths(range(20, 52)))]
    assert counts == [2 * length for length in range(20, 52)]
    assert len(traces) <= 4


def test_a_data_set_without_controls_is_bucketed():
    dataset = of_lengths([3]).map(lambda batch: {"observations": batch["observations"]})
    (batch,) = batching.bucket_lengths(dataset)
    assert {name: value.shape for name, value in batch.items()} == {
        "observations": (2, 16, 1),
        "mask": (2, 16),
    }


@pytest.mark.parametrize(
    "element, spec, message",
    [
        ((np.zeros([2, 3, 1]), np.zeros([2, 2, 1])), None, "got tuple"),
        ({"controls": np.zeros([2, 2, 1])}, None, "got controls"),
        ({"observations": np.zeros([2, 3, 1])}, {"observations": tf.TensorSpec(None)}, "got <unkn"),
    ],
)
def test_bucket_lengths_refuses(element, spec, message):
    dataset = tf.data.Dataset.from_tensors(element)
    if spec is not None:
        dataset = tf.data.Dataset.from_generator(lambda: [element], output_signature=spec)
    rule = "`dataset` must yield dictionaries with `observations` of a known rank; "
    with pytest.raises(ValueError, match=rule + message):
        batching.bucket_lengths(dataset)


def test_a_known_length_stays():
    dataset = batching.as_dataset(numbered(3), 2)
    assert batching.bucket_lengths(dataset) is dataset
