"""Several starts of one model, of which the elbo of the validation set chooses.

Latent dynamics can settle in more than one way, and the elbo then tells them apart long before
training ends: docs/pixels.md.
"""

import time
import warnings

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.experiments import options, recipe, run_folder

ROWS = "starts.json"


def seeds_of(seed, count):
    """Returns `count` seeds of starts that follow from one, which is the first of them."""
    from tfp_dvbf.layers import networks

    return [seed, *networks.split_seed(seed, count - 1)]


def best(make_model, seeds, splits, settings, folder, resume=False):
    """Trains a model from each seed for a few epochs; returns the best, not compiled.

    Args:
      make_model: Function of a seed that returns a new `DVBF`.
      seeds: Seeds, one a start.
      splits: Training, validation and test set, `Sequences` or `Shards`. The last is not used.
      settings: `options.Settings`, whose `epochs` are those of each start.
      folder: A folder for the weights and for `starts.json`, which has a row a start: `seed`,
        `elbo` in nats a sequence of the validation set, None if the start diverged, `seconds`.
      resume: Whether starts that ended in `folder` are kept.

    Raises:
      ValueError: If the folder holds starts of other settings, or is not to be continued, or if
        every start diverged.
    """
    data_hash = run_folder.data_hash(splits)
    config = options.model_config(make_model(seeds[0]), settings, data_hash)
    folder = run_folder.open_run(folder, {**config, "starts": list(seeds)}, resume)
    with run_folder.only_process(folder):
        rows = rows_of(folder) if (folder / ROWS).exists() else []
        for seed in seeds[len(rows) :]:
            begin = time.perf_counter()
            if settings.verbose:
                print(
                    f"start {len(rows) + 1} of {len(seeds)}, {settings.epochs} epochs", flush=True
                )
            model = make_model(seed)
            elbo = _elbo(model, splits, settings)
            model.save_weights(_weights(folder, seed))
            rows.append({"seed": seed, "elbo": elbo, "seconds": time.perf_counter() - begin})
            run_folder.write_json(folder / ROWS, {"rows": rows})
            if settings.verbose:
                found = "diverged" if elbo is None else f"elbo {elbo:.1f} nats a sequence"
                print(f"start {len(rows)} of {len(seeds)}: {found}", flush=True)
    finite = [row for row in rows if row["elbo"] is not None]
    if not finite:
        raise ValueError(f"All {len(seeds)} starts diverged; lower the learning rate.")
    chosen = max(finite, key=lambda row: row["elbo"])["seed"]
    model = make_model(chosen)
    model.load_weights(_weights(folder, chosen))
    return model


def rows_of(folder):
    """Returns the rows of `starts.json` in a folder."""
    return run_folder.read_json(folder / ROWS)["rows"]


def _weights(folder, seed):
    return folder / f"{seed}.weights.h5"


def _elbo(model, splits, settings):
    """Trains a model; returns the elbo of the validation set, or None if training diverged."""
    import tfp_dvbf
    from tfp_dvbf import callbacks

    train, validation, _ = splits
    recipe.prepare(model, train, settings)
    made = [tfp_dvbf.KLAnnealing(settings.kl_annealing_epochs, settings.initial_kl_weight)]
    if settings.verbose == 1:
        made.append(callbacks.ProgressLine())
    try:
        with warnings.catch_warnings():  # The best one goes on and is looked at in the end.
            warnings.filterwarnings("ignore", message=".* latent dimensions ha(s|ve) collapsed")
            model.fit(
                recipe.batches(train, settings, settings.seed),
                epochs=settings.epochs,
                verbose=2 if settings.verbose == 2 else 0,
                callbacks=made,
            )
    except errors.DivergenceError:
        return None
    dataset = tfp_dvbf.as_dataset(validation, batch_size=128)
    elbo = -model.evaluate(dataset, verbose=0, return_dict=True)["neg_elbo"]
    return elbo if np.isfinite(elbo) else None
