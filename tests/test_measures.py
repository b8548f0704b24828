"""Scores against closed forms of the Gaussian, brute force, and the package scoringrules."""

import numpy as np
import oracles
import pytest
import scipy.stats

from tfp_dvbf.evaluation import interval_score, measures

RNG = np.random.default_rng(0)
# One forecast for each of 400 steps, with an offset that float32 could not square.
MEAN = RNG.normal(size=[4, 100, 2]) + 1e4
SCALE = np.exp(RNG.normal(size=[4, 100, 2]))
TRUTH = MEAN + SCALE * RNG.normal(size=MEAN.shape)


def gaussian_draws(number, seed=1):
    noise = np.random.default_rng(seed).normal(size=[number, *MEAN.shape])
    return MEAN + SCALE * noise


def test_gaussian_scores_are_the_closed_forms():
    scores = measures.score_gaussian(MEAN, SCALE, TRUTH)
    normal = scipy.stats.norm(MEAN, SCALE)
    np.testing.assert_allclose(scores.nll, -normal.logpdf(TRUTH).sum(axis=-1), rtol=1e-9)
    np.testing.assert_allclose(scores.pit, normal.cdf(TRUTH), rtol=1e-9)
    for share in (0.5, 0.9):
        low, high = normal.interval(share)
        expected = ((low <= TRUTH) & (TRUTH <= high)).mean(axis=-1)
        np.testing.assert_array_equal(getattr(scores, f"coverage_{100 * share:.0f}"), expected)
    np.testing.assert_array_equal(scores.nll_mixture, scores.nll)
    own = measures.score_gaussian(MEAN, SCALE, TRUTH, nll_mixture=np.ones([4, 100]))
    np.testing.assert_array_equal(own.nll_mixture, 1.0)


def test_gaussian_crps_is_the_integral_that_defines_it():
    mean, scale, truth = 0.3, 0.7, 1.1
    grid = np.linspace(-12.0, 12.0, 400001)
    integrand = np.square(scipy.stats.norm.cdf(grid, mean, scale) - (grid >= truth))
    expected = np.trapezoid(integrand, grid)
    assert measures.gaussian_crps(mean, scale, truth) == pytest.approx(expected, abs=1e-4)


def test_scores_of_draws_are_their_definitions():
    """The moments by NumPy and SciPy, the CRPS by all pairs of draws."""
    draws = gaussian_draws(7)
    scores = measures.score_draws(draws, TRUTH)
    mean, scale = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    squares = np.square(mean - TRUTH).mean(axis=-1)
    np.testing.assert_allclose(scores.squared_error, squares, rtol=1e-7)
    nll = -scipy.stats.norm(mean, scale).logpdf(TRUTH).sum(axis=-1)
    np.testing.assert_allclose(scores.nll, nll, rtol=1e-7)
    pairs = np.abs(draws[:, np.newaxis] - draws).sum(axis=(0, 1)) / (2 * 7 * 6)
    crps = (np.abs(draws - TRUTH).mean(axis=0) - pairs).mean(axis=-1)
    np.testing.assert_allclose(scores.crps, crps, rtol=1e-7, atol=1e-9)
    assert np.isnan(scores.nll_mixture).all()


def test_the_interval_score_is_its_definition():
    """Width, and 20 times how far the truth lies outside; the true density has the least."""
    draws = gaussian_draws(399)
    low, high = (np.sort(draws, axis=0)[index] for index in [19, 379])
    outside = np.where(low > TRUTH, low - TRUTH, 0.0) + np.where(high < TRUTH, TRUTH - high, 0.0)
    expected = (high - low + 20.0 * outside).mean(axis=-1)
    scores = measures.score_draws(draws, TRUTH)
    np.testing.assert_allclose(scores.others["interval_score_90"], expected, rtol=1e-6)
    for factor in [0.5, 2.0]:
        other = interval_score.interval_score_90(MEAN + factor * (draws - MEAN), TRUTH)
        assert other.mean() > expected.mean()


def test_the_crps_is_that_of_scoringrules():
    scoringrules = pytest.importorskip("scoringrules", reason="it is in the extra `test`")
    draws = gaussian_draws(50)
    expected = scoringrules.crps_ensemble(TRUTH, draws, m_axis=0, estimator="fair")
    np.testing.assert_allclose(measures.crps(draws, TRUTH), expected, atol=1e-8)
    expected = scoringrules.crps_normal(TRUTH, MEAN, SCALE)
    np.testing.assert_allclose(measures.gaussian_crps(MEAN, SCALE, TRUTH), expected, atol=1e-8)


def test_the_crps_of_few_draws_has_no_bias():
    """For each value the mean over many sets of 3 draws is the CRPS of their density."""
    draws = RNG.normal(size=[3, 20000, 5])
    truth = np.linspace(-2.0, 2.0, 5)
    estimates = measures.crps(draws, np.broadcast_to(truth, draws.shape[1:]))
    oracles.within_standard_error(estimates, measures.gaussian_crps(0.0, 1.0, truth))


@pytest.mark.parametrize("number, share", [(3, 0.5), (19, 0.9), (100, 0.5), (100, 0.9)])
def test_intervals_of_draws_cover_as_often_as_they_say(number, share):
    """NumPy's default quantiles of 100 draws would cover 88 % and not 90 %."""
    draws = RNG.normal(size=[number, 40000])
    covered = measures.inside(draws, RNG.normal(size=40000), share)
    oracles.within_standard_error(covered, share, num_errors=4.0)


def test_the_pit_of_a_true_forecast_is_uniform_over_its_ranks():
    ranks = measures.pit(RNG.normal(size=[9, 20000]), RNG.normal(size=20000)) * 10 - 0.5
    counts = np.bincount(np.round(ranks).astype(int), minlength=10)
    assert counts.sum() == 20000 and scipy.stats.chisquare(counts).pvalue > 1e-3
    np.testing.assert_allclose(measures.pit(np.array([1.0, 2.0, 2.0, 3.0]), 2.0), 0.5)


def test_the_mixture_is_that_of_the_densities():
    means, truth = np.array([-1.0, 0.5, 3.0]), 0.2
    densities = scipy.stats.norm.pdf(truth, means, 0.4)
    found = measures.mixture_nll(scipy.stats.norm.logpdf(truth, means, 0.4))
    assert found == pytest.approx(-np.log(densities.mean()), rel=1e-12)
    far = measures.mixture_nll(np.array([-2000.0, -2000.0]))  # Their densities are 0 in float64.
    assert far == pytest.approx(2000.0)


def test_a_summary_weighs_observed_steps():
    draws = gaussian_draws(20)
    log_likelihoods = RNG.normal(size=[20, 4, 100])
    scores = measures.score_draws(draws, TRUTH, log_likelihoods)
    observed = RNG.uniform(size=[4, 100]) < 0.7
    observed[:, 5] = False
    spoilt = TRUTH.copy()
    spoilt[~observed] = 1e9
    found = measures.summarise(measures.score_draws(draws, spoilt, log_likelihoods), observed)
    assert found["rmse"] == pytest.approx(np.sqrt(scores.squared_error[observed].mean()))
    for name in ["nll", "nll_mixture", "crps", "coverage_50", "coverage_90"]:
        values = getattr(scores, name)
        assert found[name] == pytest.approx(values[observed].mean())
        assert found["by_horizon"][name][5] is None
        assert found["by_horizon"][name][6] == pytest.approx(values[observed[:, 6], 6].mean())
        low, high = found["intervals"][name]
        assert low < found[name] < high
    squares = scores.squared_error[observed[:, 6], 6]
    assert found["by_horizon"]["rmse"][6] == pytest.approx(np.sqrt(squares.mean()))
    expected, _ = np.histogram(scores.pit[observed], 10, (0, 1))
    np.testing.assert_allclose(found["pit"], expected / expected.sum())


def test_what_is_not_finite_is_none():
    """Draws that are all equal have no variance: no Gaussian NLL, but the other scores."""
    scores = measures.score_draws(np.zeros([5, 2, 3, 1]), np.ones([2, 3, 1]))
    found = measures.summarise(scores, np.ones([2, 3]))
    assert found["nll"] is None and found["nll_mixture"] is None and found["rmse"] == 1.0
    assert found["intervals"]["nll"] == [None, None] and found["by_horizon"]["nll"][0] is None
    scores = measures.score_gaussian(np.zeros([2, 3]), np.zeros([2, 3]), np.zeros([2, 3]))
    found = measures.summarise(scores, np.ones([2, 3]))
    assert found["nll"] is None and found["crps"] is None and found["rmse"] == 0.0


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: measures.score_draws(np.zeros([5, 2, 3]), np.zeros([2, 4])),
            "`draws` must have s",
        ),
        (lambda: measures.score_draws(np.zeros([1, 2, 3]), np.zeros([2, 3])), "at least 2 samples"),
        (
            lambda: measures.score_draws(np.zeros([5, 2, 3]), np.zeros([2, 3]), np.zeros([5, 2])),
            r"`log_likelihoods` must have shape \(5, 2, 3\); got \(5, 2\)",
        ),
        (
            lambda: measures.score_gaussian(np.zeros([2, 3]), np.ones([2, 3]), np.zeros([2, 4])),
            "`mean`, `scale` and `truth` must have one shape",
        ),
        (
            lambda: measures.summarise(
                measures.score_gaussian(MEAN, SCALE, TRUTH), np.ones([4, 9])
            ),
            r"`observed` must have shape \(4, 100\); got \(4, 9\)",
        ),
        (
            lambda: measures.summarise(
                measures.score_gaussian(MEAN, SCALE, TRUTH), np.zeros([4, 100])
            ),
            "`observed` must leave a time step to score",
        ),
    ],
)
def test_one_line_each_for_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
