"""Forecasts of a model against what happened: in free run, and one step ahead.

A free run is given x[0:n] and all controls and goes on by the transition alone; everything after n
is scored. One step ahead every x[t] is forecast from x[0:t] by the particle filter.
"""

import warnings

import numpy as np

from tfp_dvbf import errors
from tfp_dvbf.evaluation import batches, measures

# What is held at a time: draws of time steps, whose hidden layers a decoder holds, and values.
TIME_STEPS = 2**18
VALUES = 2**22


def free_run(model, sequences, initial_steps=None, num_draws=100, seed=1):
    """Scores the free run of a model.

    Args:
      model: A `DVBF` or an `Ensemble`.
      sequences: `Sequences` or `Shards`.
      initial_steps: The number n of time steps that the model is given, at least those that q(z[0])
        sees, which are the default.
      num_draws: Draws of each sequence, two or more; of each member of an ensemble.
      seed: Seed of the draws and of the resampling behind the intervals.

    Returns:
      A dictionary: `initial_steps`, `num_draws` and what `measures.summarise` returns; the first
      horizon is x[n].

    Raises:
      ValueError: If n leaves nothing to score, or is less than what the model needs.
    """
    steps = check_initial_steps(model, sequences, initial_steps)
    scores, observed = free_run_scores(model, sequences, steps, num_draws, seed)
    about = {"initial_steps": steps, "num_draws": int(num_draws)}
    return {**about, **measures.summarise(scores, observed, seed)}


def free_run_scores(model, sequences, initial_steps=None, num_draws=100, seed=1):
    """Returns the `measures.StepScores` of a free run, [batch, time - n], and what is observed.

    Arguments as for `free_run`. Memory grows with the time steps of a part of the run, not with
    those of the sequences.
    """
    steps = check_initial_steps(model, sequences, initial_steps)
    errors.check_integer("num_draws", num_draws, least=2)

    def score(batch, steps, start):
        runs = [
            draw(member, batch, steps, num_draws, [seed, start, index])
            for index, member in enumerate(members_of(model))
        ]
        parts = [_score_part(model, batch, pieces) for pieces in zip(*runs)]
        return measures.join(parts, axis=1)

    return score_batches(sequences, steps, num_draws, score)


def one_step(model, sequences, initial_steps=None, num_particles=64, seed=1):
    """Scores the predictions of the particle filter, p(x[t] | x[0:t], u[0:t]), at t >= n.

    Args:
      model, sequences, initial_steps, seed: As for `free_run`.
      num_particles: Particles of each sequence.

    Returns:
      A dictionary: `initial_steps`, `num_particles`, `log_evidence`, the estimate of
      ln p(x[t] | x[0:t]) in nats a time step, of which `nll_mixture` is the negative, and what
      `measures.summarise` returns; the other scores are those of a Gaussian with mean and scale of
      the prediction.

    Raises:
      ValueError: As for `free_run`, and if the model cannot be filtered.
    """
    steps = check_initial_steps(model, sequences, initial_steps)
    reason = reason_against_filtering(model)
    if reason:
        raise ValueError(f"`model` must be one that can be filtered: {reason}.")

    def score(batch, steps, start):
        arrays = batch.observations, batch.controls, num_particles, seed + start
        found = model.filter(*arrays, mask=batch.mask)
        mean, scale, log_evidence = (
            np.asarray(tensor)[:, steps:]
            for tensor in (found.predicted_mean, found.predicted_scale, found.log_evidence)
        )
        truth = batch.observations[:, steps:]
        return measures.score_gaussian(mean, scale, truth, -log_evidence)

    scores, observed = score_batches(sequences, steps, num_particles, score)
    found = measures.summarise(scores, observed, seed)
    log_evidence = None if found["nll_mixture"] is None else -found["nll_mixture"]
    about = {"initial_steps": steps, "num_particles": int(num_particles)}
    return {**about, "log_evidence": log_evidence, **found}


def members_of(model):
    """Returns the models that draw: the members of an `Ensemble`, or the model alone."""
    return getattr(model, "members", (model,))  # To import `Ensemble` would start TensorFlow.


def reason_against_filtering(model):
    """Returns why a model, or a member of it, cannot be filtered step by step, or None."""
    answers = [member.recognition_model.steps for member in members_of(model)]
    return next((answer.reason for answer in answers if not answer), None)


def check_initial_steps(model, sequences, initial_steps=None):
    """Returns the number n of time steps that a forecast is given, or raises ValueError."""
    batches.check_sequences("sequences", sequences)
    least = max(member.recognition_model.initial_steps for member in members_of(model))
    number = least if initial_steps is None else initial_steps
    number = errors.check_integer("initial_steps", number)
    if number < least:
        raise ValueError(
            f"`initial_steps` must be at least the {least} that q(z[0]) sees; got {number}."
        )
    return check_scored(sequences, number)


def check_scored(sequences, initial_steps):
    """Returns `initial_steps`, or raises ValueError if it leaves nothing to score in any sequence.

    Sequences that it leaves nothing to score in are left out; a warning counts them.
    """
    if initial_steps >= sequences.num_steps:
        raise ValueError(
            f"`initial_steps` must be less than the {sequences.num_steps} steps of a sequence; "
            f"got {initial_steps}."
        )
    number = len(sequences)
    scored = sum(
        int(_scored(batch, initial_steps).sum())
        for _, batch in batches.batches(sequences, max(1, number))
    )
    if not scored:
        raise ValueError(
            f"`sequences` must have an observed step after the first {initial_steps}; none has one."
        )
    if scored < number:
        warnings.warn(
            f"{number - scored} of {number} sequences have no observed step after the first "
            f"{initial_steps} and are left out of the forecasts.",
            stacklevel=2,
        )
    return initial_steps


def _scored(batch, initial_steps):
    """Returns which sequences of a batch have an observed step after the first ones, [batch]."""
    return batch.observed[:, initial_steps:].any(axis=1)


def draw(model, sequences, initial_steps, num_draws, seed):
    """Draws the free run of `Sequences` a part of the time steps at a time.

    A part goes on from the drawn states of the last one, so that its draws are those of one run.

    Args:
      model: A `DVBF`.
      sequences: `Sequences`.
      initial_steps: The number n of time steps that the model is given.
      num_draws: Draws of each sequence.
      seed: Seed, an integer or a list of them.

    Yields:
      The index of the first time step of the part, n at first, and the `Trajectory` of the part.
    """
    seeds = np.random.SeedSequence(seed)
    length = _part_length(sequences, num_draws)
    states = None
    for first in range(initial_steps, sequences.num_steps, length):
        last = min(first + length, sequences.num_steps)
        part_seed = int(seeds.spawn(1)[0].generate_state(1).view(np.int32)[0])
        if states is None:
            given = slice(None), slice(0, first)
            mask = None if sequences.mask is None else sequences.mask[given]
            controls = sequences.controls[:, : last - 1]
            drawn = model.forecast(
                sequences.observations[given], controls, num_draws, part_seed, mask
            )
        else:
            controls = sequences.controls[:, first - 1 : last - 1]
            drawn = model.generate(
                controls, initial_state=states, num_samples=num_draws, seed=part_seed
            )
        drawn = type(drawn)(*(tensor[:, :, first - last :] for tensor in drawn))
        states = drawn.states[:, :, -1]
        yield first, drawn


def _part_length(sequences, num_draws):
    """Returns how many time steps of all sequences are drawn at a time."""
    rows, size = len(sequences) * num_draws, int(np.prod(sequences.observation_shape))
    return max(1, min(TIME_STEPS // rows, VALUES // (rows * size)))


def _score_part(model, batch, pieces):
    """Scores the time steps that each member has drawn; `pieces` are what `draw` yielded."""
    first, drawn = pieces[0]
    truth = batch.observations[:, first : first + drawn.states.shape[2]]
    log_likelihoods = [
        member.state_space_model.log_likelihood(drawn.states, truth)
        for member, (_, drawn) in zip(members_of(model), pieces)
    ]
    draws = [drawn.observations for _, drawn in pieces]
    return measures.score_draws(np.concatenate(draws), truth, np.concatenate(log_likelihoods))


def score_batches(sequences, initial_steps, num_draws, score):
    """Scores sequences, some at a time: as many as a filter can hold the draws of all steps of.

    Those that have no observed step after the first n are left out.

    Args:
      sequences: `Sequences` or `Shards`.
      initial_steps: The number n of time steps that are not scored.
      num_draws: Draws of each sequence.
      score: Function of `Sequences`, n and the number of sequences before them, to `StepScores`.

    Returns:
      `StepScores` of all sequences, and whether each scored step is observed, [batch, time - n].
    """
    size = int(np.prod(sequences.observation_shape))
    number = max(1, VALUES // (num_draws * sequences.num_steps * size))
    scores, observed = [], []
    for start, batch in batches.batches(sequences, number):
        some = _scored(batch, initial_steps)
        if some.any():
            batch = batch if some.all() else batch[some]
            scores.append(score(batch, initial_steps, start))
            observed.append(batch.observed[:, initial_steps:])
    return measures.join(scores), np.concatenate(observed)
