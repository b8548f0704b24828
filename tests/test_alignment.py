"""Controls paired with the wrong step are found; aligned ones pass in silence."""

import pathlib
import re
import warnings

import models
import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf import data
from tfp_dvbf.data import alignment, shards
from tfp_dvbf.experiments import options, recipe

ROOTS = pathlib.Path(__file__).parents[2:4]  # Measurements lie beside the project.


@pytest.fixture(scope="module")
def pendulum():
    return tfp_dvbf.collect("Pendulum-v1", 60, num_steps=50, seed=1)


def of(sequences):
    return tfp_dvbf.check_alignment(sequences.observations, sequences.controls, sequences.mask)


def silently(*arrays):
    """Returns the `Alignment` of arrays; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return tfp_dvbf.check_alignment(*arrays)


def autoregressive(shift, noise=0.1, gain=1.0, batch=4, steps=200):
    """Returns x[t+1] = 0.9 x[t] + gain u[t + shift] + noise N(0, 1), with white u."""
    rng = np.random.default_rng(1)
    u = rng.normal(size=(batch, steps + 2, 1))
    x = np.zeros([batch, steps + 1, 1])
    for t in range(1, steps):
        drift = 0.9 * x[:, t] + gain * u[:, t + shift]
        x[:, t + 1] = drift + noise * rng.normal(size=(batch, 1))
    return x, u[:, : steps + 1]


def measured(name):
    """Returns the arrays of a file of measurements, which the project does not hold."""
    found = [root / "shared" / "data" / name for root in ROOTS]
    path = next(filter(pathlib.Path.exists, found), None)
    if path is None:
        pytest.skip(f"{name} is not at hand: docs/data.md says where it comes from")
    if name.endswith(".csv"):
        return np.genfromtxt(path, delimiter=",", skip_header=1)
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_the_shift_and_the_errors_of_a_linear_system(shift):
    """The error of the right model is the noise, 0.1; without the control it is sqrt(1 + 0.01)."""
    if shift:
        message = f"a shift of {shift:+d} has a one-step error of 0.1"
        with pytest.warns(UserWarning, match=re.escape(message)):
            found = tfp_dvbf.check_alignment(*autoregressive(shift))
        assert found.errors[0] == pytest.approx(np.sqrt(1.01), rel=0.1)
    else:
        found = silently(*autoregressive(shift))
        assert found.errors[-1] == pytest.approx(np.sqrt(1.01), rel=0.1)
    assert found.shift == shift
    assert found.errors[shift] == pytest.approx(0.1, rel=0.1)


def test_the_late_controls_of_the_poster(pendulum):
    """The warning gives both errors and the remedy, and the remedy cures it."""
    late = data.shift_controls(pendulum)
    with pytest.warns(UserWarning) as record:
        found = of(late)
    assert found.shift == 1 and found.errors[1] < 0.7 * found.errors[0]
    (message,) = [str(each.message) for each in record]
    errors = [f"{found.errors[shift]:.3g}" for shift in (0, 1)]
    for part in ["u[t+1], not by u[t]", "`control_lead=1`", *errors]:
        assert part in message
    log = tfp_dvbf.Log(list(late.observations), list(late.controls), control_lead=1)
    cured = log.sequences()
    assert silently(cured.observations, cured.controls, cured.mask).shift == 0


def test_early_controls(pendulum):
    early = np.roll(pendulum.controls, -1, axis=1)
    with pytest.warns(UserWarning, match=r"explained best by u\[t-1\].*`control_lead=-1`"):
        assert tfp_dvbf.check_alignment(pendulum.observations, early).shift == -1


def test_aligned_environments_pass(pendulum):
    white = tfp_dvbf.collect(
        "Pendulum-v1", 60, 50, 1, policy=lambda x, rng: rng.normal(size=(len(x), 1))
    )
    car = tfp_dvbf.collect("MountainCarContinuous-v0", 40, 100, 1)
    for sequences in [pendulum, white, car]:
        found = silently(sequences.observations, sequences.controls, sequences.mask)
        assert found.shift == 0 and found.errors[0] < 0.7 * min(found.errors[-1], found.errors[1])


def test_systems_whose_order_only_looks_like_a_shift():
    """x[t+1] of a chain of integrators depends most on u[t-1]; controls without effect on none."""
    rng = np.random.default_rng(1)
    u = rng.normal(size=(4, 300, 1))
    x = np.cumsum(rng.normal(size=(4, 300, 2)), axis=1)
    assert silently(x, u).shift == 0
    weights = np.array([1.0, 4.0, 1.0]) / 6  # The sampled triple integrator, damped.
    x = np.zeros([4, 300, 1])
    for t in range(2, 299):
        drive = sum(weight * u[:, t - lag] for lag, weight in enumerate(weights))
        x[:, t + 1] = 1.8 * x[:, t] - 0.9 * x[:, t - 1] + drive
    assert silently(x + 0.01 * rng.normal(size=x.shape), u).shift == 0


def test_feedback_looks_like_feed_through_and_the_warning_says_so():
    rng = np.random.default_rng(1)
    x, u = np.zeros([4, 200, 1]), np.zeros([4, 200, 1])
    for t in range(199):
        u[:, t] = -0.5 * x[:, t] + 0.1 * rng.normal(size=(4, 1))
        x[:, t + 1] = 0.9 * x[:, t] + u[:, t] + 0.5 * rng.normal(size=(4, 1))
    with pytest.warns(UserWarning, match=r"computes u\[t\] from x\[t\], this is its feedback"):
        assert tfp_dvbf.check_alignment(x, u).shift == 1


def test_no_verdict_without_controls_and_on_few_data_or_images(pendulum):
    x, u = pendulum.observations, pendulum.controls
    none = alignment.Alignment(None, {})
    assert silently(x, None) == silently(x, u[..., :0]) == silently(x[:2], u[:2]) == none
    assert silently(x[..., np.newaxis], u) == silently(np.zeros([60, 50, 40]), u) == none
    assert silently(np.ones([60, 50, 1]), u) == none


def test_missing_steps_and_padding_do_not_count():
    """What stands in missing steps, and controls after the last observed one, change nothing."""
    x, u = autoregressive(1)
    mask = np.ones(x.shape[:2], bool)
    mask[:, 150:] = mask[0, 20:30] = False
    with pytest.warns(UserWarning, match="feed-through"):
        expected = tfp_dvbf.check_alignment(np.where(mask[..., np.newaxis], x, np.nan), u, mask)
    spoilt = np.where(mask[..., np.newaxis], x, 1e6), np.where(np.arange(201) < 149, u[..., 0], 1e6)
    with pytest.warns(UserWarning, match="feed-through"):
        found = tfp_dvbf.check_alignment(spoilt[0], spoilt[1][..., np.newaxis], mask)
    assert found == expected and found.errors[1] == pytest.approx(0.1, rel=0.1)


def test_silverbox_has_feed_through():
    record = measured("silverbox.npz")["train"]
    with pytest.warns(UserWarning, match=r"u\[t\+1\], not by u\[t\]"):
        found = tfp_dvbf.check_alignment(record[np.newaxis, :, 1:], record[np.newaxis, :, :1])
    assert found.shift == 1 and found.errors[1] < 0.75 * found.errors[0]


def test_the_exchanger_has_feed_through():
    """With q of the same row the error of th is below half; moved by a row, it is aligned."""
    rows = measured("exchanger.csv")
    q, th = rows[np.newaxis, :, 1:2], rows[np.newaxis, :, 2:]
    with pytest.warns(UserWarning, match=r"u\[t\+1\], not by u\[t\]"):
        found = tfp_dvbf.check_alignment(th, q)
    assert found.errors[1] < 0.5 * found.errors[0]
    assert silently(th, q[:, 1:]).shift == 0


@pytest.mark.parametrize("name", ["tanks.npz", "ced.npz"])
def test_aligned_measurements_pass(name):
    arrays = measured(name)
    for part in ["train", "test"]:
        x, u = (np.atleast_2d(arrays[f"{each}_{part}"])[..., np.newaxis] for each in "yu")
        assert silently(x, u).shift == 0


def test_the_recipe_checks_the_training_set_first(tmp_path, pendulum):
    """As a warning, before TensorFlow starts, also of the first of several files."""
    for name in ["train/00000", "train/00001", "validation", "test"]:
        path = tmp_path / "data" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save(path, data.shift_controls(pendulum[:30]))
    run_options = options.RunOptions(data=str(tmp_path / "data"), output=str(tmp_path / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "make_model", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError), pytest.warns(UserWarning, match="feed-through"):
            recipe.run(run_options)
    parts = shards.Shards(tmp_path / "data" / "train")
    with pytest.warns(UserWarning, match="feed-through"):
        assert alignment.check_alignment_of(parts).shift == 1


def test_small_data_of_the_tests_have_no_verdict():
    small = models.pendulum()
    assert silently(small.observations, small.controls).shift is None
