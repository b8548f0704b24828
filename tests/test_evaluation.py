import numpy as np
import pytest

from tfp_dvbf import data, evaluation
from tfp_dvbf.data import batching, shards
from tfp_dvbf.evaluation import scores


def test_mae_on_a_hand_made_case():
    truth = np.array([[[0.0, 0.0], [1.0, 1.0]]])
    draws = np.array([[[[1.0, 0.0], [1.0, 3.0]]], [[[-1.0, 0.0], [1.0, -1.0]]]])
    # Step 0: errors 1, 0, 1, 0; step 1: errors 0, 2, 0, 2. The mean of the draws would be exact.
    np.testing.assert_allclose(evaluation.absolute_differences(draws, truth), [[0.5, 1.0]])
    np.testing.assert_allclose(evaluation.absolute_differences(draws.mean(0), truth), 0.0)
    np.testing.assert_allclose(evaluation.absolute_differences(draws[0], truth), [[0.5, 1.0]])


def test_mae_of_images_is_that_of_their_pixels():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 256, [4, 5, 3, 2, 1]).astype(np.uint8)
    for lead in [(), (6,)]:
        draws = rng.normal(size=[*lead, *truth.shape])
        flat = evaluation.absolute_differences(
            draws.reshape(*lead, 4, 5, 6), truth.reshape(4, 5, 6)
        )
        np.testing.assert_allclose(evaluation.absolute_differences(draws, truth), flat)


def test_evaluate_measures_what_the_model_generates(model, sequences):
    metrics = evaluation.evaluate(model, sequences, num_samples=3, seed=1)
    x, u = sequences.observations, sequences.controls
    draws = model.generate(u, x[:, :1], num_samples=3, seed=1).observation_mean
    mean = model.generate(u, x[:, :1], deterministic=True).observation_mean
    assert metrics["mae_sampled"] == pytest.approx(np.abs(draws - x).mean(), rel=1e-5)
    assert metrics["mae_mean"] == pytest.approx(np.abs(mean - x).mean(), rel=1e-5)
    reconstructed = model.reconstruct(x, u).observation_mean
    assert metrics["reconstruction_mae"] == pytest.approx(
        np.abs(reconstructed - x).mean(), rel=1e-5
    )
    terms = model.bound_terms(x, u, seed=1)
    elbo = -np.mean(np.sum(terms.nll + terms.kl, axis=2))
    assert metrics["elbo"] == pytest.approx(elbo, rel=1e-5)
    assert metrics["kl_per_step"] == pytest.approx(np.mean(terms.kl), rel=1e-5)
    assert len(metrics["mae_by_horizon"]) == metrics["num_steps"] == 8
    assert np.mean(metrics["mae_by_horizon"]) == pytest.approx(metrics["mae_sampled"])
    assert metrics["num_sequences"] == 12


def test_batches_are_weighted_by_their_size(model, sequences):
    whole = evaluation.evaluate(model, sequences, batch_size=12)
    batched = evaluation.evaluate(model, sequences, batch_size=5)
    for name in ["mae_mean", "reconstruction_mae"]:
        assert batched[name] == pytest.approx(whole[name], rel=1e-4)


def test_the_iwae_of_long_sequences_is_that_of_groups_of_draws(model, sequences, monkeypatch):
    """Groups of two draws would be lower by nats if their bounds, not densities, were averaged."""
    expected, drawn, log_prob_bound = {}, [], type(model).log_prob_bound
    for size in (64, 2):
        many = [
            model.log_prob_bound(sequences.observations, sequences.controls, size, seed)
            for seed in range(40)
        ]
        expected[size] = np.mean(many)

    def counted(self, observations, controls, num_samples, *args, **kwargs):
        drawn.append(num_samples)
        return log_prob_bound(self, observations, controls, num_samples, *args, **kwargs)

    monkeypatch.setattr(type(model), "log_prob_bound", counted)
    monkeypatch.setattr(scores, "TIME_STEPS", 2 * 8)
    found = evaluation.evaluate(model, sequences)["iwae_64"]
    assert sorted(set(drawn)) == [2, 64] and drawn.count(2) == 32  # And 64 for fivo.
    gap = expected[64] - expected[2]
    assert gap > 1.0 and abs(found - expected[64]) < 0.5 * gap


def test_a_folder_of_files_is_evaluated_like_their_sequences(model, sequences, tmp_path):
    for start in range(0, 12, 5):
        data.save(tmp_path / f"{start:02}.npz", sequences[start : start + 5])
    folder = shards.Shards(tmp_path)
    whole = evaluation.report(model, sequences, batch_size=5, num_samples=64)
    parts = evaluation.report(model, folder, batch_size=5, num_samples=64)
    assert whole.keys() == parts.keys() and parts["num_sequences"] == 12
    assert parts["data"].pop("sha256") and parts["data"] == whole["data"]
    for name in ["mae_sampled", "elbo", "iwae_64", "fivo_64", "kl_per_step", "mae_by_horizon"]:
        assert parts[name] == pytest.approx(whole[name], rel=1e-5)
    for row, other in zip(parts["baselines"], whole["baselines"]):
        assert row["model"] == other["model"]
        assert row["mae_sampled"] == pytest.approx(other["mae_sampled"], abs=1e-6)


def test_missing_frames_do_not_count(model, sequences):
    """Some sequences are shorter; one lacks its first frame and starts from p(z[0])."""
    mask = np.ones([12, 8], bool)
    mask[:5, 6:] = False
    mask[9, 0] = False
    masked = data.Sequences(sequences.observations, sequences.controls, mask=mask)
    metrics = evaluation.evaluate(model, masked, num_samples=3, seed=1, batch_size=12)
    x, u = sequences.observations, sequences.controls
    options = {"num_samples": 3, "seed": 1}
    draws = model.generate(u, x[:, :1], **options).observation_mean.numpy()
    draws[:, 9] = model.generate(u, **options).observation_mean[:, 9]
    errors = np.abs(draws - x).mean(axis=(0, 3))
    assert metrics["mae_sampled"] == pytest.approx(errors[mask].mean(), rel=1e-5)
    assert metrics["mae_by_horizon"][0] == pytest.approx(np.delete(errors[:, 0], 9).mean())
    assert metrics["mae_by_horizon"][7] == pytest.approx(errors[5:, 7].mean(), rel=1e-5)
    terms = model.bound_terms(x, u, seed=1, mask=mask)
    assert metrics["elbo"] == pytest.approx(-np.sum(terms.nll + terms.kl) / 12, rel=1e-5)
    assert metrics["kl_per_step"] == pytest.approx(np.sum(terms.kl) / mask.sum(), rel=1e-5)
    rows = {row["model"]: row.get("mae_sampled") for row in evaluation.baselines(masked)}
    assert rows["zeros"] == pytest.approx(np.abs(x[mask]).mean(), rel=1e-6)
    held = np.repeat(x[:, :1], 8, axis=1)
    held[9] = x[9, 1]
    assert rows["hold first observation"] == pytest.approx(np.abs(x - held)[mask].mean(), rel=1e-6)


def test_a_step_without_frames_has_no_error(model, sequences):
    mask = np.ones([12, 8], bool)
    mask[:, 7] = False
    masked = data.Sequences(sequences.observations, sequences.controls, mask=mask)
    metrics = evaluation.evaluate(model, masked)
    assert metrics["mae_by_horizon"][7] is None and metrics["mae_sampled"] > 0


@pytest.mark.parametrize("name", ["num_samples", "batch_size"])
def test_evaluate_refuses(model, sequences, name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1; got 0"):
        evaluation.evaluate(model, sequences, **{name: 0})


def test_evaluate_refuses_what_fit_takes(model, sequences):
    with pytest.raises(ValueError, match="`sequences` must be Sequences or Shards; got _Prefetch"):
        evaluation.evaluate(model, batching.as_dataset(sequences))


def test_baselines(sequences):
    rows = {row["model"]: row.get("mae_sampled") for row in evaluation.baselines(sequences)}
    x = sequences.observations
    assert rows["zeros"] == pytest.approx(np.abs(x).mean(), rel=1e-6)
    assert rows["constant mean"] == pytest.approx(np.abs(x - x.mean((0, 1))).mean(), rel=1e-6)
    assert rows["hold first observation"] == pytest.approx(np.abs(x - x[:, :1]).mean(), rel=1e-6)
    assert rows["true simulator"] == pytest.approx(0.0, abs=1e-6)
    assert not any("poster" in name for name in rows)


def test_no_simulator_row_where_files_differ(sequences, tmp_path):
    """Its mean would leave out the frames that it cannot simulate."""
    anonymous = data.Sequences(sequences.observations, sequences.controls)
    for index, part in enumerate([sequences, anonymous]):
        data.save(tmp_path / f"{index}.npz", part)
    names = [row["model"] for row in evaluation.baselines(shards.Shards(tmp_path))]
    assert "true simulator" not in names and "zeros" in names


def test_no_simulator_row_without_an_environment(sequences):
    anonymous = data.Sequences(sequences.observations, sequences.controls)
    names = [row["model"] for row in evaluation.baselines(anonymous)]
    assert "true simulator" not in names and "zeros" in names
