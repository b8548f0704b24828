"""Evaluation: generation errors, bounds, and the baselines beside them."""

import collections

import numpy as np
import scipy.special

from tfp_dvbf import registry
from tfp_dvbf.data import environments
from tfp_dvbf.evaluation import batches, collapse, forecasts, references

NUM_BOUND_SAMPLES = 64
NUM_DRAWS = 100
TIME_STEPS = 2**19  # Of all draws that are held at a time.
BATCH_SIZE = 128


def absolute_differences(generated, observations):
    """Returns |generated - observations| of each time step, [batch, time].

    Averaged over the values of an observation and samples; these are differenced one by one, so
    that the error is that of single draws and not of an average trajectory.

    Args:
      generated: [batch, time, *observation_shape] or [sample, batch, time, *observation_shape].
      observations: [batch, time, *observation_shape].
    """
    difference = np.abs(np.asarray(generated, np.float64) - observations)
    samples = difference.ndim - np.ndim(observations)
    return difference.mean(axis=(*range(samples), *range(samples + 2, difference.ndim)))


def generated_means(model, sequences, num_samples=1, seed=1, deterministic=False):
    """Generates from the first time steps, or from p(z[0]) where one of those is missing.

    Args:
      model: A `DVBF`.
      sequences: `Sequences`.
      num_samples: Draws for each sequence.
      seed: Seed of the draws.
      deterministic: Whether z[0] and every transition are at their means.

    Returns:
      The decoder's means, [sample, batch, time, dx].
    """
    steps = model.recognition_model.initial_steps
    drawn = model.generate(
        sequences.controls,
        sequences.observations[:, :steps],
        num_samples=num_samples,
        seed=seed,
        deterministic=deterministic,
        mask=sequences.observed[:, :steps],
    )
    return drawn.observation_mean.numpy()


def evaluate(
    model, sequences, num_samples=10, seed=1, batch_size=BATCH_SIZE, initial_steps=None, train=None
):
    """Measures a model on `sequences`, batch by batch.

    Generation starts from q(z[0] | x[0:k]) and goes on by the transition alone; its error is that
    of the decoder's mean. "Sampled" draws z[0] and every transition (the poster's protocol); "mean"
    takes z[0] and every transition at their means. Missing steps do not count; where one of the
    first k is missing generation starts from p(z[0]).

    Args:
      model: A `DVBF`, or an `Ensemble`, of which the forecasts alone are measured.
      sequences: `Sequences`, or `Shards` where they are larger than memory.
      num_samples: Generated trajectories for each sequence.
      seed: Seed of all draws.
      batch_size: Sequences evaluated at a time; memory grows with `batch_size * num_samples`.
      initial_steps: The number n of time steps that a free run is given; None takes those that
        q(z[0]) sees.
      train: The training part, on which the baselines of the free run are fitted, or None.

    Returns:
      A dictionary: `mae_sampled`, `mae_mean`, `reconstruction_mae` (in the unit of the data),
      `elbo` (for chain_iaf its objective, which bounds nothing) and, where the posterior has
      them, `iwae_64` and `fivo_64` (nats a sequence, 64 draws or particles), `kl_per_step` (nats
      a step), `active_units` (a dictionary: `initial` and `noise` of `collapse.ActiveUnits`, a
      number a latent dimension, and `dead`, the indices of those that have collapsed),
      `mae_by_horizon` and `mae_mean_by_horizon`
      (a number a step, None where no sequence is observed), `num_sequences, num_steps,
      num_samples, seed`. `free_run` and `one_step` are what the functions of these names return,
      `free_run` with the `baselines` of `forecast_baselines` where `train` is given; what the model
      or the data do not have is named with the reason in `left_out` instead.

    Raises:
      ValueError: If `sequences` are neither, or `num_samples` or `batch_size` is not positive.
    """
    for name, value in {"num_samples": num_samples, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1; got {value}.")
    batches.check_sequences("sequences", sequences)
    if initial_steps is not None:  # Before minutes are spent on the other measures.
        forecasts.check_initial_steps(model, sequences, initial_steps)
    alone = forecasts.members_of(model) == (model,)
    return {
        **(_errors_and_bounds(model, sequences, num_samples, seed, batch_size) if alone else {}),
        "num_sequences": len(sequences),
        "num_steps": sequences.num_steps,
        "num_samples": num_samples,
        "seed": seed,
        **_forecasts(model, sequences, initial_steps, seed, train),
    }


def _errors_and_bounds(model, sequences, num_samples, seed, batch_size):
    """Returns the errors of what a model generates and its bounds."""
    sampled, mean, reconstruction, nll, kl, num_observed = sum(
        _evaluate_batch(model, batch, num_samples, seed + start)
        for start, batch in batches.batches(sequences, batch_size)
    )
    return {
        "mae_sampled": float(sampled.sum() / num_observed.sum()),
        "mae_mean": float(mean.sum() / num_observed.sum()),
        "reconstruction_mae": float(reconstruction.sum() / num_observed.sum()),
        "elbo": float(-(nll + kl).sum() / len(sequences)),
        **_importance_bounds(model, sequences, seed, batch_size * num_samples),
        "kl_per_step": float(kl.sum() / num_observed.sum()),
        "active_units": _active_units(model, sequences, seed),
        "mae_by_horizon": _by_step(sampled, num_observed),
        "mae_mean_by_horizon": _by_step(mean, num_observed),
    }


def _active_units(model, sequences, seed):
    """Returns `collapse.ActiveUnits` as JSON can hold it."""
    found = collapse.active_units(model, sequences, NUM_DRAWS, seed)
    return {
        "initial": found.initial.tolist(),
        "noise": found.noise.tolist(),
        "dead": found.dead,
    }


def report(model, sequences, seconds=None, **options):
    """Returns what `metrics.json` holds: `evaluate`, the model, its training, the data, baselines.

    Args:
      model: A compiled `DVBF` or an `Ensemble`.
      sequences: `Sequences` or `Shards`.
      seconds: How long training took, if known.
      **options: `num_samples`, `seed`, `batch_size`, `initial_steps` and `train` of `evaluate`.
    """
    first, *others = forecasts.members_of(model)
    name = registry.name_of("posterior", first.recognition_model.posterior)
    return {
        "model": f"{len(others) + 1} of {name}" if others else name,
        "training_seed": [first.seed, *(each.seed for each in others)] if others else first.seed,
        **evaluate(model, sequences, **options),
        "parameters": model.count_params(),
        "updates": int(first.optimizer.iterations.numpy()) if first.optimizer else None,
        "seconds": seconds,
        "data": sequences.spec,
        "baselines": baselines(sequences),
    }


def _evaluate_batch(model, batch, num_samples, seed):
    """Returns sums over the sequences of a batch, by time step, [6, time].

    Three absolute differences of the observed steps, nll, kl and the number of observed steps.
    """
    x, u, mask = batch.observations, batch.controls, batch.mask
    sampled = generated_means(model, batch, num_samples, seed)
    mean = generated_means(model, batch, seed=seed, deterministic=True)
    reconstructed = model.reconstruct(x, u, mask).observation_mean
    differences = [
        batch.observed * absolute_differences(values, x)
        for values in (sampled, mean, reconstructed)
    ]
    terms = model.bound_terms(x, u, seed=seed, mask=mask)
    values = [*differences, *(np.asarray(term[0], np.float64) for term in terms), batch.observed]
    return np.sum(values, axis=1)


def _by_step(sums, num_observed):
    """Returns sums / num_observed, a list by step with None where there is no observed step."""
    return [float(value / count) if count else None for value, count in zip(sums, num_observed)]


def _importance_bounds(model, sequences, seed, num_rows):
    """Returns the bounds from several draws that the model has, holding `num_rows` draws or so."""
    size = max(1, num_rows // NUM_BOUND_SAMPLES)
    totals = dict.fromkeys([bound for bound in model.bounds if bound != "elbo"], 0.0)
    for index, (_, batch) in enumerate(batches.batches(sequences, size)):
        for bound in totals:
            values = _importance_bound(model, batch, bound, seed + index)
            totals[bound] += float(np.sum(values, dtype=np.float64))
    return {
        f"{bound}_{NUM_BOUND_SAMPLES}": total / len(sequences) for bound, total in totals.items()
    }


def _importance_bound(model, batch, bound, seed):
    """Returns a bound from `NUM_BOUND_SAMPLES` draws, [batch].

    The iwae of long sequences is the log-mean-exp of those of groups of draws, since it keeps the
    draws of all time steps; a particle filter does not.
    """
    groups = 1
    while bound == "iwae" and groups < min(
        NUM_BOUND_SAMPLES, NUM_BOUND_SAMPLES * batch.num_steps / TIME_STEPS
    ):
        groups *= 2
    others = np.random.SeedSequence(seed).generate_state(groups - 1).view(np.int32)
    values = [
        model.log_prob_bound(
            batch.observations,
            batch.controls,
            NUM_BOUND_SAMPLES // groups,
            int(group_seed),
            objective=bound,
            mask=batch.mask,
        )
        for group_seed in [seed, *others]
    ]
    return scipy.special.logsumexp(np.float64(values), axis=0) - np.log(groups)


def _forecasts(model, sequences, initial_steps, seed, train):
    """Returns the scores of the forecasts, and the reasons for what is left out of them."""
    try:
        steps = forecasts.check_initial_steps(model, sequences, initial_steps)
    except ValueError as error:
        return {"left_out": {"free_run": str(error), "one_step": str(error)}}
    found = {"free_run": forecasts.free_run(model, sequences, steps, NUM_DRAWS, seed)}
    left_out = {}
    if train is not None:
        try:
            rows = references.forecast_baselines(train, sequences, steps, NUM_DRAWS, seed)
            found["free_run"]["baselines"] = rows
        except ValueError as error:
            left_out["baselines"] = str(error)
    reason = forecasts.reason_against_filtering(model)
    if reason:
        left_out["one_step"] = reason
    else:
        found["one_step"] = forecasts.one_step(model, sequences, steps, NUM_BOUND_SAMPLES, seed)
    return {**found, "left_out": left_out}


def baselines(sequences):
    """Returns table rows of what needs no model: each a name and its MAE on `sequences`.

    The true simulator runs from the first state under the recorded controls; its row is left out
    where any of the data do not say which environment made them, or the data of a folder differ
    in how they were made.
    """
    num_observed, total = 0, 0.0
    for _, batch in batches.batches(sequences, BATCH_SIZE):
        num_observed += batch.observed.sum()
        total += np.sum(batch.observations[batch.observed], axis=0, dtype=np.float64)
    sums, seen = collections.Counter(), collections.Counter()
    for _, batch in batches.batches(sequences, BATCH_SIZE):
        for name, guess in _guesses(batch, total / num_observed).items():
            difference = absolute_differences(guess, batch.observations)
            sums[name] += difference[batch.observed].sum()
            seen[name] += batch.observed.sum()
    return [
        {
            "model": name,
            "mae_sampled": float(value / num_observed),
            "mae_mean": float(value / num_observed),
        }
        for name, value in sums.items()
        if seen[name] == num_observed
    ]


def _guesses(batch, mean):
    """Returns what needs no model as observations of the shape of the batch's, by name."""
    x = batch.observations
    first_seen = x[np.arange(len(x)), batch.observed.argmax(axis=1)]
    late = (batch.spec or {}).get("controls")
    simulator = f"true simulator, controls {late}" if late else "true simulator"
    guesses = {
        "zeros": np.zeros_like(x),
        "constant mean": np.broadcast_to(mean, x.shape),
        "hold first observation": np.broadcast_to(first_seen[:, np.newaxis], x.shape),
        simulator: environments.simulate(batch),
    }
    return {name: guess for name, guess in guesses.items() if guess is not None}
