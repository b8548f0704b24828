"""The signatures of an exported model: functions of tensors alone."""

import tensorflow as tf

from tfp_dvbf import data
from tfp_dvbf.inference import inputs, objectives, rollout

FLOAT, INT = tf.float32, tf.int32


class Servable(tf.Module):
    """The signatures of an exported model; all tensors float32 unless said otherwise.

    `controls` of T frames have T or T - 1 steps; T is 2 or more, and `initial_frames` or more.
    Observations are in the user's units. Sizes that do not fit each other, and a NaN or infinite
    value where a frame is there, end a call with an InvalidArgumentError.
    """

    def __init__(self, model, metadata):
        super().__init__()
        # Tracked, a Keras model would bring along its classes; the functions need its weights only.
        object.__setattr__(self, "model", model)
        self.weights = list(model.variables)
        self.metadata = tf.saved_model.Asset(metadata)

    def specs(self, name):
        """Returns the specs of the arguments of a signature."""
        config = self.model.config
        specs = {
            argument: tf.TensorSpec([config.get(size, size) for size in shape], dtype, argument)
            for argument, (shape, dtype) in SIGNATURES[name].items()
        }
        return {**self._belief_specs(), **specs} if name == "filter_step" else specs

    def _belief_specs(self):
        """Returns the specs of the belief, what `init` returns and `filter_step` goes on from."""
        outputs = self.init.get_concrete_function(**self.specs("init")).structured_outputs
        return {
            name: tf.TensorSpec(spec.shape, spec.dtype, name)
            for name, spec in outputs.items()
            if name != "log_score"
        }

    @tf.function
    def init(self, initial_observations, num_particles, seed):
        """Starts streams from their first frames; returns the belief and ln p(x[0])."""
        (frames,) = self._checked(initial_observations=initial_observations)
        particles, log_score = self.model._first_belief(
            frames, _positive("num_particles", num_particles), rollout.stateless_seed(seed)
        )
        return {**_belief(particles, step=tf.zeros_like(log_score, INT)), "log_score": log_score}

    @tf.function
    def filter_step(self, log_weights, step, observations, controls, present, seed, **carry):
        """Moves each stream on by one frame, which is missing where `present` is 0.

        `carry` is the rest of the belief: `particles` and whatever else the posterior goes on from.
        Returns the belief after the frame, the mean and scale of x[t] that p predicted before it,
        and its log score. The noise of a stream depends on `seed`, its `step` and its place in the
        batch, on no other stream.
        """
        frame = {"observations": observations, "controls": controls, "present": present}
        tensors = {"log_weights": log_weights, "step": step, **frame, **carry}
        tensors = _after([_fit(**tensors)], tensors)
        log_weights, step, observations, controls, present = (
            tensors.pop(name) for name in ["log_weights", "step", *frame]
        )
        present, carry = present > 0, tensors
        values = {
            "observations": tf.where(present[:, tf.newaxis], observations, 0.0),
            "controls": controls,
        }
        values = _after(self.model._assertions(**values), values)
        carry = {name: _swap(tensor) for name, tensor in carry.items()}
        carry["states"] = carry.pop("particles")
        particles, prediction = self.model._next_belief(
            objectives.Particles(carry, _swap(log_weights)),
            step + 1,
            **values,
            present=present,
            seed=rollout.stateless_seed(seed),
        )
        return {
            **_belief(particles, step + 1),
            "predicted_observation_mean": prediction.mean,
            "predicted_observation_scale": prediction.scale,
            "log_score": prediction.log_score,
        }

    @tf.function
    def filter(self, observations, controls, mask, seed):
        """Draws one trajectory of the posterior for each sequence."""
        batch = self._batch(observations, controls, mask)
        drawn = self.model._filter(batch, 1, rollout.stateless_seed(seed))
        return {name: tensor[0] for name, tensor in drawn._asdict().items()}

    @tf.function
    def forecast(self, observations, controls, num_samples, seed):
        """Filters the frames given and goes on open loop to one frame more than controls."""
        frames = self.model.config["initial_frames"]
        context, steps = tf.shape(observations)[1], tf.shape(controls)[1]
        message = "`controls` must reach past the frames of `observations`."
        observations, controls = self._checked(
            inputs.require(steps >= context, message),
            inputs.require(context >= frames, f"`observations` must have {frames} frames or more."),
            observations=observations,
            controls=controls,
        )
        num_samples = _positive("num_samples", num_samples)
        seed = rollout.stateless_seed(seed)
        return self.model._forecast(observations, controls, num_samples, seed)._asdict()

    @tf.function
    def generate(self, initial_observations, controls, num_samples, seed):
        """Draws from the generative model alone, z[0] from q(z[0] | x[0:k])."""
        frames, controls = self._checked(
            inputs.require(tf.shape(controls)[1] >= 1, "`controls` must have a step or more."),
            initial_observations=initial_observations,
            controls=controls,
        )
        num_samples = _positive("num_samples", num_samples)
        seed = rollout.stateless_seed(seed)
        return self.model._generate_from(frames, controls, num_samples, seed)._asdict()

    @tf.function
    def log_prob_bound(self, observations, controls, num_samples, seed):
        """Returns the importance-weighted bound on ln p(x), nats a sequence."""
        batch = self._batch(observations, controls)
        num_samples = _positive("num_samples", num_samples)
        seed = rollout.stateless_seed(seed)
        return {"log_prob_bound": self.model._log_prob_bound(batch, num_samples, seed, "iwae")}

    def _batch(self, observations, controls, mask=None):
        """Returns the checked `data.Batch` of a signature's arguments, what is missing set to 0."""
        given = {"observations": observations, "controls": controls}
        given |= {} if mask is None else {"mask": mask}
        given = _after([_fit(**given), *self.model._size_assertions(**given)], given)
        observations, present = given["observations"], None
        controls = given["controls"][:, : tf.shape(observations)[1] - 1]
        if mask is not None:
            present = given["mask"] > 0
            observations, controls = data.fill_missing(observations, controls, present)
        values = {"observations": observations, "controls": controls}
        return data.Batch(**_after(self.model._assertions(present, **values), values), mask=present)

    def _checked(self, *checks, **tensors):
        """Returns the `tensors`, which must fit each other, hold data and pass the ops `checks`."""
        tensors = _after([_fit(**tensors), *checks], tensors)
        return _after(self.model._assertions(**tensors), tensors).values()


OBSERVATIONS = ([None, None, "observation_dim"], FLOAT)
CONTROLS = ([None, None, "control_dim"], FLOAT)
FRAMES = ([None, "initial_frames", "observation_dim"], FLOAT)
SCALAR = ([], INT)
SIGNATURES = {
    "init": {"initial_observations": FRAMES, "num_particles": SCALAR, "seed": SCALAR},
    "filter_step": {  # Besides the belief.
        "observations": ([None, "observation_dim"], FLOAT),
        "controls": ([None, "control_dim"], FLOAT),
        "present": ([None], FLOAT),
        "seed": SCALAR,
    },
    "filter": {
        "observations": OBSERVATIONS,
        "controls": CONTROLS,
        "mask": ([None, None], FLOAT),
        "seed": SCALAR,
    },
    "forecast": {
        "observations": OBSERVATIONS,
        "controls": CONTROLS,
        "num_samples": SCALAR,
        "seed": SCALAR,
    },
    "generate": {
        "initial_observations": FRAMES,
        "controls": CONTROLS,
        "num_samples": SCALAR,
        "seed": SCALAR,
    },
    "log_prob_bound": {
        "observations": OBSERVATIONS,
        "controls": CONTROLS,
        "num_samples": SCALAR,
        "seed": SCALAR,
    },
}


def _belief(particles, step):
    """Returns the tensors of a belief, streams first."""
    carry = {name: _swap(tensor) for name, tensor in particles.states.items()}
    particle_states = carry.pop("states")
    weights = {"log_weights": _swap(particles.log_weights), "step": step}
    return {"particles": particle_states, **weights, **carry}


def _swap(tensor):
    """Swaps particles and streams, the first two axes."""
    return tf.transpose(tensor, [1, 0, *range(2, len(tensor.shape))])


def _after(checks, tensors):
    """Returns the dictionary `tensors`, whose use waits for the ops `checks`."""
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}


def _fit(**tensors):
    """Returns an op that fails unless `tensors` have the shapes of their specs and fit each other.

    TensorFlow compares what a loaded signature is called with to the dtypes of its specs alone. Of
    the sizes that they leave open the first is the batch's and, beside `log_weights`, the second
    the particles'; others are free.
    """
    shapes = {name: tf.shape(tensor) for name, tensor in tensors.items()}
    shared = {0: ("batch", next(iter(shapes.values()))[0])}
    if "log_weights" in tensors:
        shared[1] = "particle", shapes["log_weights"][1]
    wanted, rules = [], []
    for name, tensor in tensors.items():
        labels = []
        for axis, size in enumerate(tensor.shape):
            label, value = shared.get(axis, (None, shapes[name][axis]))
            labels.append(str(label if size is None else size))
            wanted.append(value if size is None else size)
        rules.append(f"`{name}` [{', '.join(labels)}]")
    found = tf.concat(list(shapes.values()), axis=0)
    fits = tf.reduce_all(found == tf.stack(wanted))
    return inputs.require(fits, f"Shapes must be {', '.join(rules)}.")


def _positive(name, number):
    """Returns the scalar `number`, or fails when the graph runs if it is less than 1."""
    with tf.control_dependencies([inputs.require(number >= 1, f"`{name}` must be at least 1.")]):
        return tf.identity(number)
