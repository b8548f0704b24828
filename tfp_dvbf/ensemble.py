"""Several models of one system as one: what one model does not know shows in how they differ."""

import json
import pathlib
import threading

import numpy as np
import tensorflow as tf
import tf_keras

from tfp_dvbf import data, errors, threads
from tfp_dvbf.inference import particle_filter, particles
from tfp_dvbf.layers import state_space_model
from tfp_dvbf.training import VariationalModel

# What the file of an ensemble's folder is called that says how many members there are.
INDEX = "ensemble.json"
SEED_STRIDE = 1_000_003  # Between the seeds of two members.


class Ensemble:
    """M models, made by one function from different seeds, as an equal mixture (a "deep ensemble").

        p(x[0:T] | u[0:T-1]) = 1/M sum_m p_m(x[0:T] | u[0:T-1])

    (Lakshminarayanan et al. 2017, arXiv:1612.01474). Draws are those of all members, one member
    after the other: [M * num_samples, batch, ...]. The members have latent spaces of their own, so
    that their states cannot be compared. Arguments and errors of the methods are those of `DVBF`.

        ensemble = Ensemble(lambda seed: DVBF(3, 1, 4, seed=seed), seeds=[1, 2, 3, 4, 5])

    Args:
      build: Function of a seed that returns a new `DVBF`.
      seeds: Different seeds, one a member.

    Attributes:
      members: The models, a tuple.

    Raises:
      ValueError: If there are no seeds or two of the same, or `build` returns something else than a
        new `DVBF` of the same sizes every time.
    """

    def __init__(self, build, seeds):
        seeds = [errors.check_integer("seeds", seed, least=0) for seed in seeds]
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"`seeds` must be different integers, one or more; got {seeds}.")
        self.members = check_members([build(seed) for seed in seeds])

    @classmethod
    def of(cls, members):
        """Returns the ensemble of models that exist already."""
        ensemble = cls.__new__(cls)
        ensemble.members = check_members(members)
        return ensemble

    @property
    def sizes(self):
        """`observation_shape`, `control_dim` and `state_dim` of every member, by name."""
        return self.members[0].sizes

    def adapt(self, dataset):
        """Standardises every member by the same data."""
        for member in self.members:
            member.adapt(dataset)

    def compile(self, optimizer="adam", **kwargs):
        """Configures training; every member has its own copy of the optimizer."""
        for member in self.members:
            own = optimizer
            if isinstance(optimizer, tf_keras.optimizers.Optimizer):
                own = type(optimizer).from_config(optimizer.get_config())
            member.compile(own, **kwargs)

    def fit(self, x=None, *, validation_data=None, callbacks=(), num_threads=1, **kwargs):
        """Trains one member after the other, or several at the same time.

        Args:
          x, validation_data: As `DVBF.fit` takes them, or functions of the member's index that
            return them.
          callbacks: Callbacks that start anew with every member's training, or a function of the
            member's index that returns them, as a `ModelCheckpoint` with a path of its own needs.
          num_threads: So many members train at the same time, each in a thread of its own. More
            than one needs functions for data and callbacks: in which order members read one data
            set would depend on which of them is faster, and a callback follows one model. The
            lines of progress do not say whose they are.
          **kwargs: As `DVBF.fit` takes them.

        Returns:
          Keras' `History` of each member, a list.

        Raises:
          ValueError: If `num_threads` is not positive, or more than 1 without functions or with
            several replicas; and as `DVBF.fit` does. An error of one member ends the training of
            all.
        """
        own = {"x": x, "validation_data": validation_data, "callbacks": callbacks or ()}
        if errors.check_integer("num_threads", num_threads, least=1) > 1:
            threads.check_own(own, self.members)
            kwargs = {"verbose": 2, **kwargs}  # Progress bars would write over each other.
        stopped = threading.Event()

        def train(index):
            given = {name: each(index) if callable(each) else each for name, each in own.items()}
            given["callbacks"] = [threads.StopsWithOthers(stopped), *given["callbacks"]]
            return self.members[index].fit(**given, **kwargs)

        if num_threads == 1:
            return [train(index) for index in range(len(self.members))]
        return threads.in_threads(train, len(self.members), num_threads, stopped)

    def forecast(self, observations, controls=None, num_samples=1, seed=None, **kwargs):
        """Continues open loop; returns a `Trajectory` of [M * num_samples, batch, time, ...]."""
        arguments = observations, controls, num_samples
        return pooled([m.forecast(*arguments, s, **kwargs) for m, s in self._seeded(seed)])

    def generate(
        self, controls=None, initial_observations=None, num_samples=1, seed=None, **kwargs
    ):
        """Draws from the generative models; returns a `Trajectory` as `forecast` does."""
        if kwargs.get("initial_state") is not None:
            raise ValueError("`initial_state` must be left out; every member has its own states.")
        given = {"initial_observations": initial_observations, "num_samples": num_samples, **kwargs}
        return pooled([m.generate(controls, seed=s, **given) for m, s in self._seeded(seed)])

    def sample_posterior(self, observations, controls=None, num_samples=1, seed=None, mask=None):
        """Draws from the posteriors of all members."""
        arguments = observations, controls, num_samples
        return pooled([m.sample_posterior(*arguments, s, mask) for m, s in self._seeded(seed)])

    def impute(self, observations, controls=None, mask=None, num_samples=1, seed=None):
        """Draws the missing steps from the posteriors of all members."""
        arguments = observations, controls, mask, num_samples
        return pooled([m.impute(*arguments, s) for m, s in self._seeded(seed)])

    def log_prob_bound(self, observations, controls=None, num_samples=64, seed=None, **kwargs):
        """Returns ln 1/M sum_m exp(bound_m), a bound on ln p of the mixture, nats [batch]."""
        arguments = observations, controls, num_samples
        bounds = [m.log_prob_bound(*arguments, s, **kwargs) for m, s in self._seeded(seed)]
        return particles.log_mean_exp(tf.stack(bounds))

    def filter(self, observations, controls=None, num_samples=64, seed=None, mask=None):
        """Filters whole sequences by all members.

        The prediction of x[t] is the equal mixture of the members' predictions; so `log_evidence`
        is ln 1/M sum_m p_m(x[t] | x[0:t]), whose sum over t is not that of `log_prob_bound`.

        Returns:
          A `particle_filter.Filtered` with M * num_samples draws.
        """
        arguments = observations, controls, num_samples
        found = [m.filter(*arguments, s, mask) for m, s in self._seeded(seed)]
        draws = (tf.concat([getattr(f, n) for f in found], axis=0) for n in found[0]._fields[:2])
        moments = mixed([each.predicted_mean for each in found], [f.predicted_scale for f in found])
        log_evidence = particles.log_mean_exp(tf.stack([each.log_evidence for each in found]))
        return particle_filter.Filtered(*draws, *moments, log_evidence)

    def filter_init(self, initial_observations, num_particles=64, seed=None):
        """Starts streams.

        Returns:
          A dictionary: `members`, what `DVBF.filter_init` returns of each member, a tuple, which
          `filter_step` goes on from; and `log_evidence`, that of the mixture.
        """
        found = [
            m.filter_init(initial_observations, num_particles, s) for m, s in self._seeded(seed)
        ]
        return {"members": tuple(found), "log_evidence": evidence_of(found)}

    def filter_step(self, belief, observations, controls=None, observed=None, seed=None):
        """Moves streams on by one time step; M beliefs are carried.

        Returns:
          What `filter_init` returns, and the mixture's `predicted_observation_mean` and
          `predicted_observation_scale`, [batch, *observation_shape].
        """
        found = [
            member.filter_step(own, observations, controls, observed, s)
            for own, (member, s) in zip(belief["members"], self._seeded(seed), strict=True)
        ]
        names = "predicted_observation_mean", "predicted_observation_scale"
        mean, scale = mixed(*([out[name] for out in found] for name in names))
        predicted = dict(zip(names, (mean, scale)))
        return {"members": tuple(found), "log_evidence": evidence_of(found), **predicted}

    def count_params(self):
        """Returns the number of weights of all members."""
        return sum(member.count_params() for member in self.members)

    def get_config(self):
        return {"members": [member.get_config() for member in self.members]}

    def save(self, path):
        """Writes every member as a `.keras` file into a new folder, whole or not at all.

        `experiments.run_folder.load_model` reads it.

        Raises:
          ValueError: If `path` exists, or a weight is not finite.
        """
        path = pathlib.Path(path)
        if path.exists():
            raise ValueError(f"`path` must not exist yet; got {path}.")
        self.check_finite_weights()
        with data.new_folder(path) as folder:
            for index, member in enumerate(self.members):
                member.save(folder / member_file(index))
            (folder / INDEX).write_text(json.dumps({"members": len(self.members)}) + "\n")

    def check_finite_weights(self):
        """Raises ValueError if a weight of a member is not finite."""
        for member in self.members:
            member.check_finite_weights()

    def _seeded(self, seed):
        """Returns pairs of a member and the seed of its draws."""
        seeds = (member_seed(seed, index) for index in range(len(self.members)))
        return zip(self.members, seeds)


def member_file(index):
    """Returns the name of the file of one member in the folder of an ensemble."""
    return f"member-{index}.keras"


def check_members(members):
    """Returns models as a tuple, or raises ValueError unless they can be members of an ensemble."""
    members = tuple(members)
    for member in members:
        if not isinstance(member, VariationalModel):
            raise ValueError(f"`build` must return a DVBF; got {type(member).__name__}.")
    if not members or len(set(map(id, members))) < len(members):
        raise ValueError("`build` must return a new model for every seed, of one seed or more.")
    if any(member.sizes != members[0].sizes for member in members):
        sizes = [member.sizes for member in members]
        raise ValueError(f"The members of an ensemble must have the same sizes; got {sizes}.")
    return members


def member_seed(seed, index):
    """Returns the seed of the draws of one member, an integer, a tensor or None as `seed` is."""
    if seed is None:
        return None
    if isinstance(seed, tf.Tensor):
        return tf.cast(seed, tf.int32) + np.int32(index * SEED_STRIDE)  # Wraps around.
    return (int(seed) + index * SEED_STRIDE + 2**31) % 2**32 - 2**31


def pooled(drawn):
    """Returns the `Trajectory` of the draws of all members."""
    return state_space_model.Trajectory(*(tf.concat(parts, axis=0) for parts in zip(*drawn)))


def evidence_of(found):
    """Returns the log evidence of the mixture; -inf where x[t] counted as missing everywhere."""
    return particles.log_mean_exp(tf.stack([out["log_evidence"] for out in found]))


def mixed(means, scales):
    """Returns mean and standard deviation of an equal mixture of which those of each part are."""
    parts = particles.uniform(tf.stack(means))
    return particles.mixture_moments(parts.log_weights, (parts.states, tf.stack(scales)))
