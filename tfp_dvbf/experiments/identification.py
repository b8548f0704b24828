"""How a real system is identified from its records: several models as one, scored in free run.

Beside the models that train on all of the records there are some that leave a block each out. The
free runs of the blocks, each by the model that has not seen it, say how good forecasts and
intervals are before a test record is touched. What makes the intervals honest, floors of the
learned noise and several models as one, was chosen by them: docs/intervals.md.
"""

import numpy as np

from tfp_dvbf import evaluation, registry
from tfp_dvbf.evaluation import forecasts, measures
from tfp_dvbf.experiments import options, recipe, run_folder, tables

NUM_FOLDS = 5
NUM_DRAWS = 200  # Of each model in the free run.


def log_of(pairs, protocol):
    """Returns the `Log` of records (y, u)."""
    from tfp_dvbf import Log

    return Log(
        [y[:, None] for y, _ in pairs],
        [u[:, None] for _, u in pairs],
        observation_names=[f"y [{protocol.unit}]"],
        control_names=["u [V]"],
        control_lead=protocol.control_lead,
    )


def make_model(protocol, posterior="innovation", state_dim=4, seed=1):
    """Returns a new `DVBF` with the settings of the benchmark.

    No steps are hidden from a posterior that has to see all of them.
    """
    from tfp_dvbf import DVBF, layers

    emission_floor, transition_floor = protocol.noise_floors
    takes_gaps = registry.class_of("posterior", posterior).takes_gaps
    return DVBF(
        *(1, 1, state_dim),
        posterior=posterior,
        transition=layers.MLPTransition(
            protocol.hidden_units,
            protocol.activation,
            noise_floor=transition_floor,
            linear_path=protocol.linear_path,
            state_bound=protocol.state_bound,
        ),
        emission=layers.GaussianEmission(
            protocol.emission_units, protocol.activation, noise_floor=emission_floor
        ),
        hidden_steps=protocol.hidden_steps if takes_gaps else None,
        seed=seed,
    )


def train(model, log, protocol, settings, folder, resume=False):
    """Trains a model on all of a log into its run folder, and returns it.

    Args:
      model: A `DVBF`.
      log: The training records.
      protocol: A `published_records.Protocol`.
      settings: `options.Settings`.
      folder: The run folder, a path.
      resume: Whether a run in `folder` is continued.
    """
    windows = log.windows(protocol.window, protocol.stride)
    apart = log.windows(protocol.window)
    apart.spec["part"] = "training record"  # The report of the run says so.
    recipe.train(model, (windows, apart, apart), folder, settings, resume=resume)
    return run_folder.load_model(folder)


def train_without_block(model, log, index, protocol, settings, folder, resume=False):
    """Trains a model as `train` does, on all but block `index % NUM_FOLDS` of the log.

    Returns:
      The model, and the block as `Sequences`.
    """
    rest, block = log.fold(index % NUM_FOLDS, NUM_FOLDS, min_length=protocol.window)
    held_out = block.sequences()
    window = min(protocol.window, held_out.num_steps)
    validation = block.windows(window, max(1, window // 2))
    validation.spec["part"] = "block left out"
    splits = rest.windows(protocol.window, protocol.stride), validation, validation
    recipe.train(model, splits, folder, settings, resume=resume)
    return run_folder.load_model(folder), held_out


def as_one(models):
    """Returns the `Ensemble` of models, or the model where there is one."""
    from tfp_dvbf import Ensemble

    return Ensemble.of(models) if len(models) > 1 else models[0]


def settings_of(protocol, seed, epochs=None, verbose=1):
    """Returns the `options.Settings` of a benchmark."""
    return options.Settings(
        epochs=epochs or protocol.epochs,
        batch_size=protocol.batch_size,
        learning_rate=protocol.learning_rate,
        kl_annealing_epochs=min(20, (epochs or protocol.epochs) // 2),
        initial_steps=protocol.initial_steps,
        seed=seed,
        verbose=verbose,
    )


def pooled(models, blocks, initial_steps):
    """Returns what `evaluation.free_run` would of all blocks, each forecast by its own model."""
    steps = min(block.num_steps for block in blocks) - initial_steps
    parts = [
        forecasts.free_run_scores(model, block, initial_steps, NUM_DRAWS, seed=1)
        for model, block in zip(models, blocks)
    ]
    scores = measures.join([scores for scores, _ in parts], num_steps=steps)
    observed = np.concatenate([observed[:, :steps] for _, observed in parts])
    return measures.summarise(scores, observed, seed=1)


def chosen(found):
    """Returns what a row of a report shows of what `evaluation.free_run` returns."""
    intervals = {name: found["intervals"][name] for name in tables.SCORES}
    return {**{name: found[name] for name in tables.SCORES}, "intervals": intervals}


def score(model, known, initial_steps):
    """Returns the scores of the free run of each record, by its name."""
    return {
        name: evaluation.free_run(model, sequences, initial_steps, NUM_DRAWS, seed=1)
        for name, sequences in known.items()
    }


def baselines(log, known, protocol):
    """Returns the scores of what needs no network in the free run of each record, by its name."""
    train, steps = log.windows(protocol.window), protocol.initial_steps
    return {
        name: evaluation.forecast_baselines(train, sequences, steps, NUM_DRAWS, seed=1)
        for name, sequences in known.items()
    }


class FreeRun:
    """A model as `nonlinear_benchmarks` asks for one: y_model of test.u and test.y[:n].

        y_model = FreeRun(model, protocol)(test.u, test.y[:n])
        RMSE(test.y[n:], y_model[n:])

    Args:
      model: A `DVBF` or an `Ensemble`, trained on records in the unit of `protocol`.
      protocol: A `published_records.Protocol`.
      num_draws: Draws of each member, of which the mean is taken.
    """

    def __init__(self, model, protocol, num_draws=NUM_DRAWS):
        self.model = model
        self.protocol = protocol
        self.num_draws = num_draws

    def __call__(self, u, y_init):
        """Maps u [steps] and y[0:n] [n], in the units of the file, to the mean of y, [steps]."""
        u, y_init = np.asarray(u, np.float64), np.asarray(y_init, np.float64)
        lead, steps = self.protocol.control_lead, len(y_init)
        controls = u[np.newaxis, lead : len(u) - 1 + lead, np.newaxis]
        given = self.protocol.factor * y_init[np.newaxis, :, np.newaxis]
        drawn = self.model.forecast(given, controls, self.num_draws, seed=1).observation_mean
        mean = np.asarray(drawn, np.float64).mean(axis=0)[0, :, 0] / self.protocol.factor
        return np.concatenate([y_init, mean[steps:]])
