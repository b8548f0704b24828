"""Graphs of the methods of a model compute what the same Python does without a graph."""

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf.inference import execution

SLOW = [pair for pair in models.POSTERIOR_AND_ENCODER if pair[0] != "iaf"]
PAIRS = [("iaf", "filter"), *models.marked(SLOW, [])]


def results(model, sequences):
    """Returns what each method that draws returns, by the method's name."""
    x, u = sequences.observations, sequences.controls
    found = {
        "sample_posterior": model.sample_posterior(x, u, 2, seed=1),
        "forecast": model.forecast(x[:, :3], u, 2, seed=1),
        "generate": model.generate(u, x[:, :1], num_samples=2, seed=1),
        "bound_terms": model.bound_terms(x, u, seed=1),
    }
    if model.recognition_model.posterior.steps and model.recognition_model.encoder.steps:
        found["filter"] = model.filter(x, u, 4, seed=1)
    for bound in model.bounds:
        found[bound] = model.log_prob_bound(x, u, 4, seed=1, objective=bound)
    return found


@pytest.mark.parametrize("posterior, encoder", PAIRS)
def test_graphs_compute_what_python_does(sequences, posterior, encoder, capfd):
    """Grappler optimises each of them without a complaint."""
    model = models.cached_model(posterior, adapt=True, encoder=encoder)
    graphs = results(model, sequences)
    assert "meta_optimizer" not in capfd.readouterr().err
    with models.functions_without_graphs():
        python = results(model, sequences)
    assert ("filter" in graphs) == (posterior != "chain_iaf" and encoder == "filter")
    for name, expected in python.items():
        for tensor, value in zip(tf.nest.flatten(graphs[name]), tf.nest.flatten(expected)):
            np.testing.assert_allclose(tensor, value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_xla_compiles_the_filter_of_long_sequences(sequences, monkeypatch):
    """Its random numbers are others: its estimates lie among those of other seeds."""
    monkeypatch.setattr(execution, "COMPILED_STEPS", 8)
    model = models.adapted(models.small_model("innovation", noise_floor=0.5), sequences)
    x, u, mask = sequences.observations, sequences.controls, np.ones([12, 8], bool)
    mask[:, 0] = False  # q(z[0]), which is not trained, would leave few particles with weight.
    compiled = model.filter(x, u, 2000, seed=1, mask=mask)
    plain = [model.filter(x[:, :7], u[:, :6], 2000, seed, mask[:, :7]) for seed in range(1, 13)]
    assert not np.array_equal(compiled.states[:, :, :7], plain[0].states)
    for name in ["log_evidence", "predicted_mean", "predicted_scale"]:
        estimates = np.array([getattr(found, name) for found in plain])
        distance = np.abs(getattr(compiled, name)[:, :7] - estimates.mean(axis=0))
        assert np.all(distance < 6.0 * estimates.std(axis=0) + 1e-3), name
