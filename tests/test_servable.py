import numpy as np
import pytest
import tensorflow as tf


def test_the_same_seed_gives_the_same_output(exported, sequences):
    _, path, _ = exported["iaf"]
    generate = tf.saved_model.load(str(path)).signatures["generate"]
    frames = tf.constant(sequences.observations[:, :1])
    draws = [
        generate(
            initial_observations=frames,
            controls=tf.constant(sequences.controls),
            num_samples=tf.constant(2),
            seed=tf.constant(seed),
        )["states"].numpy()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.all(draws[0][:, :, 1] != draws[2][:, :, 1])


def test_bad_input_at_a_signature(exported, sequences):
    _, path, _ = exported["iaf"]
    signatures = tf.saved_model.load(str(path)).signatures
    x, u = tf.constant(sequences.observations), tf.constant(sequences.controls)
    scalars = {"num_samples": tf.constant(1), "seed": tf.constant(1)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="must reach past the frames"):
        signatures["forecast"](observations=x, controls=u[:, :3], **scalars)
    with pytest.raises(Exception, match="observations"):
        signatures["forecast"](observations=x[..., :2], controls=u, **scalars)
    with pytest.raises(Exception, match="float"):
        signatures["forecast"](observations=tf.cast(x, tf.float64), controls=u, **scalars)
    none = {"num_samples": tf.constant(0), "seed": tf.constant(1)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`num_samples` must be at least 1"):
        signatures["generate"](initial_observations=x[:, :1], controls=u, **none)
    bound = signatures["log_prob_bound"]
    for wrong in [u[:, :3], tf.concat([u, u], axis=1)]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="as many steps as `observations`"):
            bound(observations=x, controls=wrong, **scalars)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have 2 frames or more"):
        bound(observations=x[:, :1], controls=u[:, :0], **scalars)
    longer = tf.pad(u, [[0, 0], [0, 1], [0, 0]], constant_values=9.0)  # The last one is ignored.
    expected = bound(observations=x, controls=u, **scalars)["log_prob_bound"]
    actual = bound(observations=x, controls=longer, **scalars)["log_prob_bound"]
    np.testing.assert_array_equal(actual, expected)


def test_values_that_are_not_finite_are_refused(exported, sequences):
    signatures = tf.saved_model.load(str(exported["iaf"][1])).signatures
    x, u = sequences.observations.copy(), tf.constant(sequences.controls)
    x[2, 3] = np.nan
    mask = np.ones([12, 8], np.float32)
    seed = tf.constant(1)
    arguments = {"observations": tf.constant(x), "controls": u, "seed": seed}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`observations` must be finite"):
        signatures["filter"](mask=tf.constant(mask), **arguments)
    mask[2, 3] = 0
    assert np.all(np.isfinite(signatures["filter"](mask=tf.constant(mask), **arguments)["states"]))
    out = signatures["init"](
        initial_observations=tf.constant(x[:, :1]), num_particles=tf.constant(4), seed=seed
    )
    belief = {name: out[name] for name in ["particles", "log_weights", "step"]}
    frame = {"observations": tf.constant(x[:, 3]), "controls": u[:, 2], "seed": seed}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`observations` must be finite"):
        signatures["filter_step"](**belief, **frame, present=tf.ones([12]))
    out = signatures["filter_step"](**belief, **frame, present=tf.constant(mask[:, 3]))
    assert np.all(np.isfinite(out["log_weights"]))


def test_chain_iaf_refuses_gaps(exported, sequences):
    signature = tf.saved_model.load(str(exported["chain_iaf"][1])).signatures["filter"]
    mask = np.ones([12, 8], np.float32)
    mask[0, 3] = 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="`mask` may only shorten sequences"):
        signature(
            observations=tf.constant(sequences.observations),
            controls=tf.constant(sequences.controls),
            mask=tf.constant(mask),
            seed=tf.constant(1),
        )
