"""Several starts of one model, of which the elbo of the validation set chooses.

Latent dynamics can settle in more than one way, and the elbo then tells them apart long before
training ends: docs/pixels.md.
"""

import time

from tfp_dvbf.experiments import recipe, run_folder

ROWS = "starts.json"


def best(make_model, seeds, splits, settings, folder, resume=False):
    """Trains a model from each seed for a few epochs; returns the best, not compiled.

    Args:
      make_model: Function of a seed that returns a new `DVBF`.
      seeds: Seeds, one a start.
      splits: Training, validation and test set, `Sequences` or `Shards`. The last is not used.
      settings: `options.Settings`, whose `epochs` are those of each start.
      folder: A folder for the weights and for `starts.json`, which has a row a start: `seed`,
        `elbo` in nats a sequence of the validation set, `seconds`.
      resume: Whether starts that ended in `folder` are kept.

    Raises:
      ValueError: If the folder holds starts of other settings, or is not to be continued.
    """
    config = recipe.model_config(make_model(seeds[0]), settings, splits)
    folder = run_folder.open_run(folder, {**config, "seeds": list(seeds)}, resume)
    rows = rows_of(folder) if (folder / ROWS).exists() else []
    for seed in seeds[len(rows) :]:
        begin = time.perf_counter()
        if settings.verbose:
            print(f"start {len(rows) + 1} of {len(seeds)}, {settings.epochs} epochs", flush=True)
        model = make_model(seed)
        elbo = _train(model, splits, settings)
        model.save_weights(folder / f"{seed}.weights.h5")
        rows.append({"seed": seed, "elbo": elbo, "seconds": time.perf_counter() - begin})
        run_folder.write_json(folder / ROWS, {"rows": rows})
        if settings.verbose:
            print(f"start {len(rows)}: elbo {elbo:.1f} nats a validation sequence", flush=True)
    chosen = max(rows, key=lambda row: row["elbo"])["seed"]
    model = make_model(chosen)
    model.load_weights(folder / f"{chosen}.weights.h5")
    return model


def rows_of(folder):
    """Returns the rows of `starts.json` in a folder."""
    return run_folder.read_json(folder / ROWS)["rows"]


def seconds(folder):
    """Returns how long all starts of a folder took."""
    return sum(row["seconds"] for row in rows_of(folder))


def _train(model, splits, settings):
    """Trains a model, and returns the elbo of the validation set."""
    import tfp_dvbf
    from tfp_dvbf import callbacks

    train, validation, _ = splits
    recipe.prepare(model, train, settings)
    annealing = settings.kl_annealing_epochs, settings.initial_kl_weight
    model.fit(
        tfp_dvbf.as_dataset(train, settings.batch_size, settings.seed),
        epochs=settings.epochs,
        verbose=2 if settings.verbose == 2 else 0,
        callbacks=[
            tfp_dvbf.KLAnnealing(*annealing),
            *[callbacks.ProgressLine()] * (settings.verbose == 1),
        ],
    )
    dataset = tfp_dvbf.as_dataset(validation, batch_size=128)
    return -model.evaluate(dataset, verbose=0, return_dict=True)["neg_elbo"]
