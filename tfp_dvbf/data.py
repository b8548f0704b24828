"""Data sets of sequences: collecting them from Gymnasium, storing, checking and batching them."""

import dataclasses
import hashlib
import json
import os
import zipfile

import gymnasium
import numpy as np

OBSERVATION_SCALES = {"Pendulum-v1": (1.0, 1.0, 8.0)}


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Checked sequences of observations and the controls applied between them.

    Attributes:
      observations: x[0:T], float32 [sequences, time, dx].
      controls: u[0:T-1], float32 [sequences, time - 1, du]; u[t] acts between x[t] and x[t+1].
        A last control u[T-1] is accepted and dropped.
      states: The environment's own states, [sequences, time, ds], or None.
      spec: Where the data come from (environment, observation_scale, seed, ...), or None.

    Raises:
      ValueError: If an array is not numeric, has the wrong shape or a NaN or infinite value.
    """

    observations: np.ndarray
    controls: np.ndarray
    states: np.ndarray | None = None
    spec: dict | None = None

    def __post_init__(self):
        observations, controls = check_sequences(self.observations, self.controls)
        object.__setattr__(self, "observations", observations)
        object.__setattr__(self, "controls", controls)

    def __len__(self):
        return len(self.observations)

    def __getitem__(self, index):
        """Selects sequences by a slice or an index array; the spec stays."""
        states = None if self.states is None else self.states[index]
        return Sequences(self.observations[index], self.controls[index], states, self.spec)


def check_shape(name, shape, batch=None, time=None, dim=None):
    """Raises ValueError unless `shape` is [batch, time, dim].

    Each size is None (any but 0) or a tuple of the allowed ones; a size of `shape` that is None
    is not known yet and passes.
    """
    shape = tuple(shape)
    expected = {"batch": batch, "time": time, "dim": dim}
    fits = len(shape) == 3 and all(
        size is None or (size > 0 if allowed is None else size in allowed)
        for size, allowed in zip(shape, expected.values())
    )
    if not fits:
        sizes = [
            " or ".join(map(str, allowed)) if allowed else axis
            for axis, allowed in expected.items()
        ]
        raise ValueError(f"`{name}` must have shape [{', '.join(sizes)}]; got {shape}.")


def check_shapes(observations, controls, observation_dim=None, control_dim=None):
    """Raises ValueError unless the two shapes fit each other and the dimensions given."""
    dims = [None if dim is None else (dim,) for dim in [observation_dim, control_dim]]
    check_shape("observations", observations, dim=dims[0])
    batch, steps, _ = observations
    if steps is not None and steps < 2:
        raise ValueError(f"`observations` must have at least 2 steps; got {steps}.")
    check_shape(
        "controls",
        controls,
        batch=None if batch is None else (batch,),
        time=None if steps is None else (steps - 1, steps),
        dim=dims[1],
    )


def check_sequences(observations, controls, observation_dim=None, control_dim=None):
    """Returns float32 observations [batch, time, dx] and controls [batch, time - 1, du].

    Raises:
      ValueError: If they are not numeric, do not fit each other or the dimensions, or hold a NaN.
    """
    observations = check_numeric("observations", observations)
    controls = check_numeric("controls", controls)
    check_shapes(observations.shape, controls.shape, observation_dim, control_dim)
    controls = controls[:, : observations.shape[1] - 1]
    check_finite(observations=observations, controls=controls)
    return observations, controls


def check_finite(**arrays):
    """Raises ValueError naming the first sequence and step with a NaN or infinite value."""
    for name, array in arrays.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            sequence, step, dim = bad[0]
            raise ValueError(
                f"`{name}` must be finite; got {array[sequence, step, dim]} "
                f"in sequence {sequence}, step {step}, dimension {dim}."
            )


def check_numeric(name, array):
    """Returns `array` as float32, or raises ValueError if it holds anything but numbers."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"`{name}` must be numeric; got dtype {array.dtype}.")
    return array.astype(np.float32)


class OrnsteinUhlenbeck:
    """Policy of smooth random controls: a <- a - theta a + sigma N(0, 1), starting at a = 0.

    Args:
      action_shape: Shape of the actions, [num_sequences, du].
      theta: Rate of return to 0, per step.
      sigma: Standard deviation of the increments, in the unit of the action.
    """

    def __init__(self, action_shape, theta=0.15, sigma=1.5):
        self.theta = theta
        self.sigma = sigma
        self.action = np.zeros(action_shape)

    def __call__(self, observations, rng):
        noise = rng.standard_normal(self.action.shape)
        self.action = self.action - self.theta * self.action + self.sigma * noise
        return self.action


def collect(
    env_id, num_sequences=500, num_steps=50, seed=None, policy=None, observation_scale=None
):
    """Records sequences from a Gymnasium environment.

    Args:
      env_id: Name of an environment with Box observations and actions, such as "Pendulum-v1".
      num_sequences: Number of sequences, each with an initial state of its own.
      num_steps: Number of observations T of each; T - 1 controls act between them.
      seed: Seed of the environments and the policy; the same seed gives identical arrays.
      policy: Callable (observations [num_sequences, dx], rng) -> actions [num_sequences, du];
        actions are clipped to the action space. Default: `OrnsteinUhlenbeck`.
      observation_scale: Divides the observations, [dx]. Default: (1, 1, 8) for Pendulum-v1, the
        bound of its angular velocity in rad/s, otherwise 1.

    Returns:
      `Sequences` with the spec that made them and, where the environment shows it, its `state`.

    Raises:
      ValueError: If a space is not a Box or an episode ends before `num_steps`.
    """
    for name, value, least in [("num_sequences", num_sequences, 1), ("num_steps", num_steps, 2)]:
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}; got {value}.")
    seeds = np.random.SeedSequence(seed)
    envs = _make_envs(env_id, num_sequences)
    try:
        scale = _observation_scale(env_id, observation_scale, envs.single_observation_space.shape)
        policy_name = getattr(policy, "__name__", None) or type(policy).__name__
        if policy is None:
            policy = OrnsteinUhlenbeck(envs.action_space.shape)
            policy_name = f"OrnsteinUhlenbeck(theta={policy.theta}, sigma={policy.sigma})"
        observations, controls, states = _record(envs, num_steps, seeds, policy)
        time_step = getattr(envs.envs[0].unwrapped, "dt", None)
    finally:
        envs.close()
    spec = {
        "env_id": env_id,
        "gymnasium": gymnasium.__version__,
        "num_sequences": num_sequences,
        "num_steps": num_steps,
        "seed": seeds.entropy,
        "policy": policy_name,
        "observation_scale": scale.tolist(),
    }
    if time_step is not None:
        spec["time_step"] = time_step
    return Sequences(observations / scale, controls, states, spec)


def simulate(sequences):
    """Runs the true environment from each first state under the controls of `sequences`.

    Returns:
      Observations [sequences, time, dx] in the units of the data set, or None where the data do
      not say which environment made them or its state cannot be set.
    """
    spec = sequences.spec or {}
    if "env_id" not in spec or sequences.states is None:
        return None
    envs = _make_envs(spec["env_id"], len(sequences))
    try:
        observations, _ = envs.reset(seed=0)
        for env, state in zip(envs.envs, sequences.states[:, 0]):
            env.unwrapped.state = state
        frames = [sequences.observations[:, 0] * spec["observation_scale"]]
        for actions in np.swapaxes(sequences.controls, 0, 1):
            observations, *_ = envs.step(actions)
            frames.append(observations)
    finally:
        envs.close()
    return (np.stack(frames, axis=1) / spec["observation_scale"]).astype(np.float32)


def shift_controls(sequences):
    """Returns the sequences with every control one step late, as the poster's code paired them.

    The model then sees u[t-1] between x[t] and x[t+1]; before the first control it sees 0, where
    the Ornstein-Uhlenbeck policy starts.
    """
    late = np.zeros_like(sequences.controls)
    late[:, 1:] = sequences.controls[:, :-1]
    return dataclasses.replace(sequences, controls=late)


def _make_envs(env_id, num_envs):
    try:
        envs = gymnasium.make_vec(env_id, num_envs=num_envs, vectorization_mode="sync")
    except gymnasium.error.Error as error:
        raise ValueError(
            f"`env_id` must name a Gymnasium environment; got {env_id!r}: {error}"
        ) from error
    for name in ["observation_space", "action_space"]:
        space = getattr(envs, f"single_{name}")
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            envs.close()
            raise ValueError(f"The {name} of {env_id} must be a Box of rank 1; got {space}.")
    return envs


def _observation_scale(env_id, observation_scale, shape):
    if observation_scale is None:
        observation_scale = OBSERVATION_SCALES.get(env_id, np.ones(shape))
    scale = np.asarray(observation_scale, np.float64)
    if scale.shape != shape or not np.all(scale > 0):
        raise ValueError(f"`observation_scale` must be {shape[0]} positive numbers; got {scale}.")
    return scale


def _record(envs, num_steps, seeds, policy):
    """Returns observations, clipped controls and states (or None) of one episode an environment."""
    env_seeds, policy_seeds = seeds.spawn(2)
    rng = np.random.default_rng(policy_seeds)
    seed_list = [int(seed) for seed in env_seeds.generate_state(envs.num_envs)]
    observations, _ = envs.reset(seed=seed_list)
    frames, controls, states = [observations.copy()], [], [_states(envs)]
    for step in range(1, num_steps):
        actions = np.clip(policy(observations, rng), envs.action_space.low, envs.action_space.high)
        actions = actions.astype(np.float32)
        observations, _, terminated, truncated, _ = envs.step(actions)
        ended = np.flatnonzero(terminated | truncated)
        if len(ended) and step < num_steps - 1:
            raise ValueError(
                f"Every episode must last `num_steps` = {num_steps} observations; "
                f"episode {ended[0]} ended after {step + 1}."
            )
        frames.append(observations.copy())
        controls.append(actions)
        states.append(_states(envs))
    states = None if states[0] is None else np.stack(states, axis=1)
    return np.stack(frames, axis=1), np.stack(controls, axis=1), states


def _states(envs):
    """Returns the `state` of every environment, [num_envs, ds], or None where there is none."""
    states = [getattr(env.unwrapped, "state", None) for env in envs.envs]
    return None if states[0] is None else np.array(states, np.float64)


def save(path, sequences):
    """Writes `sequences` to the `.npz` file `path`, whole or not at all."""
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    if sequences.states is not None:
        arrays["states"] = sequences.states
    spec = {**(sequences.spec or {}), "sha256": content_hash(arrays)}
    temporary = f"{path}.partial"
    with open(temporary, "wb") as file:
        np.savez_compressed(file, spec=json.dumps(spec), **arrays)
    os.replace(temporary, path)


def load(path):
    """Reads `Sequences` from an `.npz` file; never unpickles.

    The file holds `observations` [N, T, dx], `controls` [N, T or T - 1, du] and, optionally,
    `states` and `spec` (JSON).

    Raises:
      ValueError: If the file is not such a file, or does not match the hash in its spec.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path} must be an .npz file of numeric arrays; {error}.") from error
    missing = {"observations", "controls"} - set(arrays)
    if missing:
        raise ValueError(f"{path} must hold `observations` and `controls`; it lacks {missing}.")
    if "mask" in arrays and not np.all(arrays["mask"]):
        raise ValueError(f"{path} has a `mask` with missing frames, which is not supported yet.")
    try:
        spec = json.loads(str(arrays.get("spec", "{}")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: `spec` must be JSON; {error}.") from error
    stored = {
        name: arrays[name] for name in ["observations", "controls", "states"] if name in arrays
    }
    if spec.get("sha256", content_hash(stored)) != content_hash(stored):
        raise ValueError(f"{path} is corrupt: its content does not match its sha256.")
    return Sequences(stored["observations"], stored["controls"], stored.get("states"), spec or None)


def as_dataset(sequences, batch_size=16, seed=None, first_epoch=0):
    """Batches sequences for `DVBF.fit`, `evaluate` and `adapt`.

    Args:
      sequences: `Sequences`.
      batch_size: Sequences a batch; the last batch may be smaller.
      seed: Shuffles if given: the order of each epoch depends on `seed` and its number alone, so
        that a resumed run sees what an uninterrupted one would have seen. None keeps the order.
      first_epoch: Number of the epoch that the first iteration over the data set is.

    Returns:
      A `tf.data.Dataset` of {"observations": [batch, time, dx], "controls": [batch, time - 1, du]}.
    """
    import tensorflow as tf  # Here, so that collecting data does not wait for TensorFlow.

    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1; got {batch_size}.")
    count = len(sequences)
    arrays = {"observations": sequences.observations, "controls": sequences.controls}
    tensors = tf.nest.map_structure(tf.constant, arrays)

    indices = tf.data.Dataset.range(count)
    if seed is not None:
        # A variable, since only state outside the data set survives from one iteration to the next.
        epoch = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

        def shuffled_indices(_):
            key = tf.stack([tf.cast(seed, tf.int64), epoch.assign_add(1) - 1])
            order = tf.random.experimental.stateless_shuffle(tf.range(count), key)
            return tf.data.Dataset.from_tensor_slices(order)

        indices = tf.data.Dataset.range(1).flat_map(shuffled_indices)
    batches = indices.batch(batch_size).map(
        lambda index: tf.nest.map_structure(lambda tensor: tf.gather(tensor, index), tensors)
    )
    num_batches = -(-count // batch_size)
    return batches.apply(tf.data.experimental.assert_cardinality(num_batches)).prefetch(2)


def content_hash(arrays):
    """Returns the SHA-256 of named arrays, their dtypes and shapes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
