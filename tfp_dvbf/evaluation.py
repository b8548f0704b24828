"""Evaluation: generation errors, bounds, the baselines beside them, and the tables they go in."""

import statistics

import numpy as np
import scipy.stats

from tfp_dvbf import environments

NUM_BOUND_SAMPLES = 64
POSTER_MAD = {"gaussian": 0.1536, "chain_iaf": 0.1915}

COLUMNS = {
    "model": "model",
    "training_seed": "seed",
    "seeds": "seeds",
    "mad_sampled": "sampled MAD",
    "mad_mean": "mean MAD",
    "reconstruction_mad": "reconstr. MAD",
    "elbo": "elbo",
    "iwae_64": "iwae 64",
    "fivo_64": "fivo 64",
    "kl_per_step": "KL / step",
    "lowest_kl": "lowest KL",
    "parameters": "parameters",
    "updates": "updates",
    "seconds": "seconds",
    "training_ms": "ms / update",
    "sampling_ms": "ms / 128 draws",
}
FORMATS = {
    "elbo": "{:.1f}",
    "iwae_64": "{:.1f}",
    "fivo_64": "{:.1f}",
    "kl_per_step": "{:.2f}",
    "lowest_kl": "{:.1f}",
    "parameters": "{:,.0f}",
    "updates": "{:,.0f}",
    "seconds": "{:.0f}",
    "training_ms": "{:.1f}",
    "sampling_ms": "{:.1f}",
}


def absolute_differences(generated, observations):
    """Returns |generated - observations| of each frame, [batch, time].

    Averaged over dimensions and samples; these are differenced one by one, so that the error is
    that of single draws and not of an average trajectory.

    Args:
      generated: [batch, time, dx] or [sample, batch, time, dx].
      observations: [batch, time, dx].
    """
    difference = np.abs(np.asarray(generated, np.float64) - observations)
    return difference.mean(axis=(-1, *range(difference.ndim - 3)))


def generated_means(model, sequences, num_samples=1, seed=1, deterministic=False):
    """Generates from the first frames, or from p(z[0]) where one of those is missing.

    Args:
      model: A `DVBF`.
      sequences: `Sequences`.
      num_samples: Draws for each sequence.
      seed: Seed of the draws.
      deterministic: Whether z[0] and every transition are at their means.

    Returns:
      The decoder's means, [sample, batch, time, dx].
    """
    options = {"num_samples": num_samples, "seed": seed, "deterministic": deterministic}
    num_frames = model.config["initial_frames"]
    frames = sequences.observations[:, :num_frames]
    seen = sequences.present[:, :num_frames].all(axis=1)[:, np.newaxis, np.newaxis]
    means = model.generate(sequences.controls, frames, **options).observation_mean.numpy()
    if seen.all():
        return means
    return np.where(seen, means, model.generate(sequences.controls, **options).observation_mean)


def evaluate(model, sequences, num_samples=10, seed=1, batch_size=128):
    """Measures a model on `sequences`, batch by batch.

    Generation starts from q(z[0] | x[0]) and goes on by the transition alone; its error is that of
    the decoder's mean. "Sampled" draws z[0] and every transition (the poster's protocol); "mean"
    takes z[0] and every transition at their means. Missing frames do not count; where x[0] is
    missing generation starts from p(z[0]).

    Args:
      model: A `DVBF`.
      sequences: `Sequences`.
      num_samples: Generated trajectories for each sequence.
      seed: Seed of all draws.
      batch_size: Sequences evaluated at a time; memory grows with `batch_size * num_samples`.

    Returns:
      A dictionary: `mad_sampled`, `mad_mean`, `reconstruction_mad` (in the unit of the data),
      `elbo` and, where the posterior has them, `iwae_64` and `fivo_64` (nats a sequence, 64 draws
      or particles), `kl_per_step` (nats a frame), `mad_by_horizon` and `mad_mean_by_horizon`
      (a number a step, None where no sequence has a frame), `num_sequences, num_steps,
      num_samples, seed`.

    Raises:
      ValueError: If `num_samples` or `batch_size` is not positive.
    """
    for name, value in {"num_samples": num_samples, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1; got {value}.")
    batches = [
        _evaluate_batch(model, sequences[start : start + batch_size], num_samples, seed + start)
        for start in range(0, len(sequences), batch_size)
    ]
    sampled, mean, reconstruction, nll, kl = map(np.concatenate, zip(*batches))
    present = sequences.present
    return {
        "mad_sampled": float(sampled[present].mean()),
        "mad_mean": float(mean[present].mean()),
        "reconstruction_mad": float(reconstruction[present].mean()),
        "elbo": float(-(nll + kl).sum() / len(sequences)),
        **_importance_bounds(model, sequences, seed, batch_size * num_samples),
        "kl_per_step": float(kl.sum() / present.sum()),
        "mad_by_horizon": _by_step(sampled, present),
        "mad_mean_by_horizon": _by_step(mean, present),
        "num_sequences": len(sequences),
        "num_steps": sequences.num_steps,
        "num_samples": num_samples,
        "seed": seed,
    }


def report(model, sequences, seconds=None, **options):
    """Returns what `metrics.json` holds: `evaluate`, the model, its training, the data, baselines.

    Args:
      model: A compiled `DVBF`.
      sequences: `Sequences`.
      seconds: How long training took, if known.
      **options: `num_samples`, `seed` and `batch_size` of `evaluate`.
    """
    return {
        "model": model.config["posterior"],
        "training_seed": model.config["seed"],
        **evaluate(model, sequences, **options),
        "parameters": model.count_params(),
        "updates": int(model.optimizer.iterations.numpy()) if model.optimizer else None,
        "seconds": seconds,
        "data": sequences.spec,
        "baselines": baselines(sequences),
    }


def _evaluate_batch(model, batch, num_samples, seed):
    """Returns the three absolute differences, nll and kl of each frame, each [batch, time]."""
    x, u, mask = batch.observations, batch.controls, batch.mask
    sampled = generated_means(model, batch, num_samples, seed)
    mean = generated_means(model, batch, seed=seed, deterministic=True)
    reconstructed = model.reconstruct(x, u, mask).observation_mean
    differences = [absolute_differences(values, x) for values in (sampled, mean, reconstructed)]
    terms = model.bound_terms(x, u, seed=seed, mask=mask)
    return *differences, *(np.asarray(term[0], np.float64) for term in terms)


def _by_step(values, present):
    """Returns the mean of values [batch, time] over the frames that are there, a list by step."""
    return np.ma.masked_array(values, ~present).mean(axis=0).tolist()


def _importance_bounds(model, sequences, seed, num_rows):
    """Returns the bounds from several draws that the model has, holding `num_rows` draws or so."""
    size = max(1, num_rows // NUM_BOUND_SAMPLES)
    parts = [sequences[start : start + size] for start in range(0, len(sequences), size)]
    return {
        f"{bound}_{NUM_BOUND_SAMPLES}": float(
            np.mean(
                np.concatenate(
                    [
                        model.log_prob_bound(
                            part.observations,
                            part.controls,
                            NUM_BOUND_SAMPLES,
                            seed + index,
                            bound,
                            part.mask,
                        )
                        for index, part in enumerate(parts)
                    ]
                )
            )
        )
        for bound in model.bounds
        if bound != "elbo"
    }


def baselines(sequences):
    """Returns table rows of what needs no model: each a name and its MAD on `sequences`.

    The true simulator runs from the first state under the recorded controls; its row is left out
    where the data do not say which environment made them. The poster's figures are on its data.
    """
    x, present = sequences.observations, sequences.present
    first_seen = x[np.arange(len(x)), present.argmax(axis=1)]
    late = (sequences.spec or {}).get("controls")
    simulator = f"true simulator, controls {late}" if late else "true simulator"
    guesses = {
        "zeros": np.zeros_like(x),
        "constant mean": np.broadcast_to(x[present].mean(axis=0), x.shape),
        "hold first observation": np.broadcast_to(first_seen[:, np.newaxis], x.shape),
        simulator: environments.simulate(sequences),
    }
    rows = [
        {"model": name, "mad_sampled": float(mad), "mad_mean": float(mad)}
        for name, guess in guesses.items()
        if guess is not None
        for mad in [absolute_differences(guess, x)[present].mean()]
    ]
    poster = [{"model": f"poster, {name}", "mad_sampled": mad} for name, mad in POSTER_MAD.items()]
    return rows + poster


def medians(rows):
    """Returns a row with the median over seeds for each model that has several."""
    names = dict.fromkeys(row["model"] for row in rows)
    groups = {name: [row for row in rows if row["model"] == name] for name in names}
    return [
        {
            "model": f"{name}, median",
            **{
                key: statistics.median(row[key] for row in group)
                for key in COLUMNS
                if key not in ("model", "training_seed") and all(key in row for row in group)
            },
        }
        for name, group in groups.items()
        if len(group) > 1
    ]


def summary(name, rows, confidence=0.95):
    """Returns one row for the runs of one model with several seeds.

    What varies between them becomes a pair: the mean and half the width of Student's interval
    for it.
    """
    measured = ["mad_sampled", "mad_mean", "elbo", "iwae_64", "kl_per_step"]
    common = {key: rows[0][key] for key in ["parameters", "updates"]}
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    quantile = scipy.stats.t.ppf(0.5 + confidence / 2, len(rows) - 1)
    intervals = {}
    for key in [key for key in measured if key in rows[0]]:
        values = [row[key] for row in rows]
        half = quantile * np.std(values, ddof=1) / np.sqrt(len(values)) if len(rows) > 1 else None
        intervals[key] = [float(np.mean(values)), half if half is None else float(half)]
    seconds = float(np.median(seconds)) if seconds else None
    return {"model": name, "seeds": len(rows), **intervals, **common, "seconds": seconds}


def format_table(rows):
    """Returns rows as an aligned Markdown table of the `COLUMNS` that any of them has."""
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    cells = [[COLUMNS[key] for key in keys]]
    return _align([*cells, *([_format(key, row.get(key)) for key in keys] for row in rows)])


def markdown(rows):
    """Returns rows of any keys as an aligned Markdown table, less the columns that are empty."""
    keys = dict.fromkeys(
        key for row in rows for key, value in row.items() if value not in ("", None)
    )
    cells = [[_plain(row.get(key)) for key in keys] for row in rows]
    return _align([list(keys), *cells])


def _plain(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _align(cells):
    """Returns rows of strings, the header first, as an aligned Markdown table."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in cells
    ]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _format(key, value):
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ± ".join(_format(key, part) for part in value if part is not None)
    if isinstance(value, float):
        return FORMATS.get(key, "{:.4f}").format(value)
    return FORMATS.get(key, "{}").format(value)
