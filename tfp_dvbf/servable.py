"""The signatures of an exported model: functions of tensors alone."""

import tensorflow as tf

from tfp_dvbf import data, objectives, rollout

FLOAT, INT = tf.float32, tf.int32


class Servable(tf.Module):
    """The signatures of an exported model; all tensors float32 unless said otherwise.

    `controls` of T frames have T or T - 1 steps; T is 2 or more, and `initial_frames` or more.
    Observations are in the user's units. A NaN or infinite value where a frame is there ends a
    call with an InvalidArgumentError.
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
        frames = _finite("initial_observations", initial_observations)
        particles, log_score = self.model._first_belief(
            frames, _positive("num_particles", num_particles), rollout.stateless_seed(seed)
        )
        return {**_belief(particles, step=tf.zeros_like(log_score, INT)), "log_score": log_score}

    @tf.function
    def filter_step(self, log_weights, step, observations, controls, present, seed, **carry):
        """Moves each stream on by one frame, which is missing where `present` is 0.

        `carry` is the rest of the belief: `particles` and whatever else the posterior goes on from.
        Returns the belief after the frame, the mean and scale of x[t] that p predicted before it,
        and its log score. The noise depends on `seed` and the largest `step`.
        """
        carry = {name: _swap(tensor) for name, tensor in carry.items()}
        carry["states"] = carry.pop("particles")
        present = present > 0
        observations = tf.where(present[:, tf.newaxis], observations, 0.0)
        belief, prediction = self.model._next_belief(
            objectives.Particles(carry, _swap(log_weights)),
            tf.reduce_max(step) + 1,
            _finite("observations", observations),
            _finite("controls", controls),
            present,
            rollout.stateless_seed(seed),
        )
        return {
            **_belief(belief, step + 1),
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
        observations = _finite("observations", observations)
        controls = _finite("controls", controls)
        num_samples = _positive("num_samples", num_samples)
        context, steps = tf.shape(observations)[1], tf.shape(controls)[1]
        checks = [
            tf.debugging.assert_greater_equal(
                steps, context, "`controls` must reach past the frames of `observations`."
            ),
            tf.debugging.assert_greater_equal(
                context, frames, f"`observations` must have {frames} frames or more."
            ),
        ]
        with tf.control_dependencies(checks):
            seed = rollout.stateless_seed(seed)
            drawn = self.model._forecast(tf.identity(observations), controls, num_samples, seed)
        return drawn._asdict()

    @tf.function
    def generate(self, initial_observations, controls, num_samples, seed):
        """Draws from the generative model alone, z[0] from q(z[0] | x[0:k])."""
        frames = _finite("initial_observations", initial_observations)
        controls = _finite("controls", controls)
        num_samples = _positive("num_samples", num_samples)
        seed = rollout.stateless_seed(seed)
        drawn = self.model._generate_from(frames, controls, num_samples, seed)
        return drawn._asdict()

    @tf.function
    def log_prob_bound(self, observations, controls, num_samples, seed):
        """Returns the importance-weighted bound on ln p(x), nats a sequence."""
        batch = self._batch(observations, controls)
        num_samples = _positive("num_samples", num_samples)
        seed = rollout.stateless_seed(seed)
        return {"log_prob_bound": self.model._log_prob_bound(batch, num_samples, seed, "iwae")}

    def _batch(self, observations, controls, mask=None):
        """Returns the checked `data.Batch` of a signature's arguments, what is missing set to 0."""
        steps, least = tf.shape(observations)[1], max(2, self.model.config["initial_frames"])
        message = f"`observations` must have {least} frames or more."
        checks = [tf.debugging.assert_greater_equal(steps, least, message)]
        extra = tf.shape(controls)[1] - (steps - 1)
        message = "`controls` must have as many steps as `observations`, or one fewer."
        checks.append(tf.debugging.assert_equal((extra == 0) | (extra == 1), True, message))
        with tf.control_dependencies(checks):
            controls, present = controls[:, : steps - 1], None
        if mask is not None:
            present = mask > 0
            observations, controls = data.fill_missing(observations, controls, present)
            if self.model.config["posterior"] == "chain_iaf":
                gaps = tf.reduce_any(~present[:, :-1] & present[:, 1:])
                message = "`mask` may only shorten sequences for chain_iaf."
                checks.append(tf.debugging.assert_equal(gaps, False, message))
        with tf.control_dependencies(checks):
            observations = _finite("observations", observations)
        return data.Batch(observations, _finite("controls", controls), present)


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


def _finite(name, tensor):
    """Returns `tensor`, or fails when the graph runs if it holds a NaN or infinite value."""
    return tf.debugging.assert_all_finite(tensor, f"`{name}` must be finite.")


def _positive(name, number):
    """Returns the scalar `number`, or fails when the graph runs if it is less than 1."""
    message = f"`{name}` must be at least 1."
    with tf.control_dependencies([tf.debugging.assert_positive(number, message)]):
        return tf.identity(number)
