"""The signatures of exported models: what they take, refuse and return."""

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf.serving import saved_model


def test_the_same_seed_gives_the_same_output(exported, sequences):
    _, path, _ = exported["iaf"]
    generate = tf.saved_model.load(str(path)).signatures["generate"]
    first = tf.constant(sequences.observations[:, :1])
    draws = [
        generate(
            initial_observations=first,
            controls=tf.constant(sequences.controls),
            mask=tf.ones([12, 1]),
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
    ones = {"mask": tf.ones([12, 8])}
    with pytest.raises(tf.errors.InvalidArgumentError, match="must reach past the context"):
        signatures["forecast"](observations=x, controls=u[:, :3], **ones, **scalars)
    with pytest.raises(Exception, match="float"):
        signatures["forecast"](observations=tf.cast(x, tf.float64), controls=u, **ones, **scalars)
    none = {"num_samples": tf.constant(0), "seed": tf.constant(1)}
    first = {"initial_observations": x[:, :1], "mask": tf.ones([12, 1])}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`num_samples` must be at least 1"):
        signatures["generate"](controls=u, **first, **none)
    context = {"observations": x[:, :4], "mask": tf.ones([12, 4])}
    for name, given in {"forecast": context, "log_prob_bound": {"observations": x, **ones}}.items():
        message = "`controls` must have the batch size of the observations"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            signatures[name](controls=u[:1], **given, **scalars)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`controls` must have a step or more"):
        signatures["generate"](controls=u[:, :0], **first, **scalars)
    short = {"observations": x, "controls": u, "mask": tf.ones([12, 1]), "seed": tf.constant(1)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`mask` must have the time size of"):
        signatures["sample_posterior"](**short)
    none = {"observations": x[:0], "controls": u[:0], "mask": tf.ones([0, 8])}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`observations` must have a sequence"):
        signatures["sample_posterior"](**none, seed=tf.constant(1))
    flat = {"observations": x[:, 0], "controls": u, "mask": tf.ones([12, 8])}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must have shape \[any, any, 3\]"):
        signatures["sample_posterior"](**flat, seed=tf.constant(1))
    bound = signatures["log_prob_bound"]
    for wrong in [u[:, :3], tf.concat([u, u], axis=1)]:
        with pytest.raises(tf.errors.InvalidArgumentError, match="as many steps as `observations`"):
            bound(observations=x, controls=wrong, **ones, **scalars)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have at least 2 steps"):
        bound(observations=x[:, :1], controls=u[:, :0], mask=tf.ones([12, 1]), **scalars)


@pytest.mark.parametrize("name", ["sample_posterior", "log_prob_bound"])
def test_a_last_control_is_ignored(exported, sequences, name):
    signature = tf.saved_model.load(str(exported["iaf"][1])).signatures[name]
    x, u = tf.constant(sequences.observations), tf.constant(sequences.controls)
    others = {"mask": tf.ones([12, 8])}
    if name == "log_prob_bound":
        others["num_samples"] = tf.constant(1)
    longer = tf.pad(u, [[0, 0], [0, 1], [0, 0]], constant_values=9.0)
    expected, actual = (
        signature(observations=x, controls=controls, seed=tf.constant(1), **others)
        for controls in [u, longer]
    )
    for key in expected:
        np.testing.assert_array_equal(actual[key], expected[key])


def valid_arguments(signatures, sequences):
    """Returns arguments of every signature."""
    x, u = tf.constant(sequences.observations), tf.constant(sequences.controls)
    seed, size = {"seed": tf.constant(1)}, {"num_samples": tf.constant(2)}
    first = {"initial_observations": x[:, :1]}
    out = signatures["filter_init"](**first, num_particles=tf.constant(4), **seed)
    belief = {name: tensor for name, tensor in out.items() if name != "log_evidence"}
    step = {"observations": x[:, 1], "controls": u[:, 0], "observed": tf.ones([12])}
    whole = {"observations": x, "controls": u}
    return {
        "filter_init": {**first, "num_particles": tf.constant(4), **seed},
        "filter_step": {**belief, **step, **seed},
        "sample_posterior": {**whole, "mask": tf.ones([12, 8]), **seed},
        "forecast": {
            **{"observations": x[:, :4], "mask": tf.ones([12, 4]), "controls": u},
            **size,
            **seed,
        },
        "generate": {**first, "mask": tf.ones([12, 1]), "controls": u, **size, **seed},
        "log_prob_bound": {**whole, "mask": tf.ones([12, 8]), **size, **seed},
    }


@pytest.mark.parametrize("posterior", ["iaf", "trajectory_iaf"])
def test_every_size_at_every_signature(exported, sequences, posterior):
    """One more or one alone, which would broadcast, of every size that is fixed or shared."""
    signatures = tf.saved_model.load(str(exported[posterior][1])).signatures
    tried = 0
    for signature, arguments in valid_arguments(signatures, sequences).items():
        for name, tensor in arguments.items():
            free = [1] if name in ["observations", "controls", "mask"] and tensor.ndim > 2 else []
            for axis in set(range(tensor.ndim)) - set(free):
                if signature == "filter_init" and axis == 0:
                    continue  # The batch is that of this tensor alone.
                for wrong in {1, tensor.shape[axis] + 1} - {tensor.shape[axis]}:
                    spoiled = tf.repeat(tf.gather(tensor, [0], axis=axis), wrong, axis=axis)
                    with pytest.raises(tf.errors.InvalidArgumentError, match="must (be|have)"):
                        signatures[signature](**{**arguments, name: spoiled})
                    tried += 1
        signatures[signature](**arguments)
    assert tried > 30


def test_pixels_at_a_signature(sequences, tmp_path):
    model = models.cached_model("iaf", emission="bernoulli")
    names = ["sample_posterior", "forecast", "log_prob_bound", "filter_init"]
    saved_model.export(model, tmp_path / "pixels", signatures=names)
    signatures = tf.saved_model.load(str(tmp_path / "pixels")).signatures
    pixels = (sequences.observations > 0).astype(np.float32)
    u, scalars = tf.constant(sequences.controls), {"seed": tf.constant(1)}
    mask = np.ones([12, 8], np.float32)
    mask[2, 3] = 0
    for value in [0.5, np.nan]:
        pixels[2, 3] = value
        arguments = {"observations": tf.constant(pixels), "controls": u, **scalars}
        signatures["sample_posterior"](mask=tf.constant(mask), **arguments)
        masks = {
            "forecast": {"mask": tf.ones([12, 4])},
            "log_prob_bound": {"mask": tf.ones([12, 8])},
        }
        for name, steps in {"forecast": 4, "log_prob_bound": 8}.items():
            arguments["observations"] = tf.constant(pixels[:, :steps])
            with pytest.raises(tf.errors.InvalidArgumentError, match="`observations` must be"):
                signatures[name](num_samples=tf.constant(2), **arguments, **masks[name])
        seen = {"mask": tf.constant(mask[:, :4])}
        arguments["observations"] = tf.constant(pixels[:, :4])
        signatures["forecast"](num_samples=tf.constant(2), **arguments, **seen)
    with pytest.raises(tf.errors.InvalidArgumentError, match="0 or 1 for the bernoulli emission"):
        signatures["filter_init"](
            initial_observations=tf.constant(0.5 * pixels[:, :1] + 0.2),
            num_particles=tf.constant(4),
            **scalars,
        )


def test_values_that_are_not_finite_are_refused(exported, sequences):
    signatures = tf.saved_model.load(str(exported["iaf"][1])).signatures
    x, u = sequences.observations.copy(), tf.constant(sequences.controls)
    x[2, 3] = np.nan
    mask = np.ones([12, 8], np.float32)
    seed = tf.constant(1)
    arguments = {"observations": tf.constant(x), "controls": u, "seed": seed}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`observations` must be finite"):
        signatures["sample_posterior"](mask=tf.constant(mask), **arguments)
    mask[2, 3] = 0
    drawn = signatures["sample_posterior"](mask=tf.constant(mask), **arguments)
    assert np.all(np.isfinite(drawn["states"]))
    out = signatures["filter_init"](
        initial_observations=tf.constant(x[:, :1]), num_particles=tf.constant(4), seed=seed
    )
    belief = {name: out[name] for name in ["particles", "log_weights", "step"]}
    step = {"observations": tf.constant(x[:, 3]), "controls": u[:, 2], "seed": seed}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`observations` must be finite"):
        signatures["filter_step"](**belief, **step, observed=tf.ones([12]))
    out = signatures["filter_step"](**belief, **step, observed=tf.constant(mask[:, 3]))
    assert np.all(np.isfinite(out["log_weights"]))


def test_chain_iaf_refuses_gaps(exported, sequences):
    signature = tf.saved_model.load(str(exported["chain_iaf"][1])).signatures["sample_posterior"]
    mask = np.ones([12, 8], np.float32)
    mask[0, 3] = 0
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have no gaps for chain_iaf"):
        signature(
            observations=tf.constant(sequences.observations),
            controls=tf.constant(sequences.controls),
            mask=tf.constant(mask),
            seed=tf.constant(1),
        )


def test_what_comes_behind_a_nan_control_is_nan(exported, sequences):
    """As in memory; the control leads from step 5 on, and step 4 is the last that is observed."""
    model, path, _ = exported["iaf"]
    controls = sequences.controls.copy()
    controls[3, 5] = np.nan
    mask = np.ones([12, 8], np.float32)
    mask[:, 5:] = 0
    signature = tf.saved_model.load(str(path)).signatures["sample_posterior"]
    given = {"observations": tf.constant(sequences.observations), "mask": tf.constant(mask)}
    found = signature(**given, controls=tf.constant(controls), seed=tf.constant(3))
    expected = model.sample_posterior(sequences.observations, controls, 1, 3, mask)
    for name, tensor in expected._asdict().items():
        np.testing.assert_allclose(found[name], tensor[0], rtol=1e-4, atol=1e-4)
    assert np.isnan(found["states"][3, 6:]).all() and np.isfinite(found["states"][3, :6]).all()


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("mask", tf.ones([12, 8, 1])),
        ("mask", tf.ones([8])),
        ("num_samples", tf.constant([4])),
        ("seed", tf.constant([1])),
    ],
)
def test_ranks_at_a_signature(exported, sequences, name, wrong):
    """They are told by the operation that compares them, since a graph takes them as known."""
    signatures = tf.saved_model.load(str(exported["iaf"][1])).signatures
    given = valid_arguments(signatures, sequences)["log_prob_bound"]
    message = rf"Shape of tensor \S*{name}\S* .* is not compatible with expected shape"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures["log_prob_bound"](**{**given, name: wrong})


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, control_dim, emission, generates",
    [
        ((16, 16, 1), 1, "image_bernoulli", True),
        ((2,), 0, "gaussian", True),
        ((2,), 1, "poisson", False),  # XLA cannot draw it: docs/export.md.
    ],
)
def test_xla_compiles_signatures_of_other_kinds(shape, control_dim, emission, generates, tmp_path):
    encoder = "convolutional" if len(shape) == 3 else "filter"
    parts = {"posterior": "innovation", "emission": emission, "encoder": encoder}
    model = models.make(shape, control_dim, 2, seed=1, **parts)
    saved_model.export(model, tmp_path / "model", jit_compile=True)
    signatures = saved_model.load_exported(tmp_path / "model").signatures
    scalar = {"seed": tf.constant(1)}

    def controls(*sizes):
        return {"controls": tf.zeros([3, *sizes, 1])} if control_dim else {}

    x = tf.ones([3, 1, *shape])
    first, draws = {"initial_observations": x, **scalar}, {"num_samples": tf.constant(4)}
    start = signatures["filter_init"](**first, num_particles=tf.constant(8))
    belief = {
        name: start[name]
        for name in signatures["filter_step"].structured_input_signature[1]
        if name in start
    }
    seen = {"observations": x[:, 0], "observed": tf.ones([3]), **scalar}
    stepped = signatures["filter_step"](**belief, **seen, **controls())
    assert np.all(np.isfinite(stepped["log_evidence"]))
    given = {**first, **draws, "mask": tf.ones([3, 1])}
    given |= controls(5) if control_dim else {"num_steps": tf.constant(6)}
    if not generates:
        with pytest.raises(tf.errors.InvalidArgumentError, match="tf2xla conversion failed"):
            signatures["generate"](**given)
        return
    assert signatures["generate"](**given)["observations"].shape == (4, 3, 6, *shape)
