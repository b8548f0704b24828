"""Sequences from Gymnasium environments."""

import gymnasium
import numpy as np

from tfp_dvbf import data

OBSERVATION_SCALES = {"Pendulum-v1": (1.0, 1.0, 8.0)}
# Of observations divided by the scale above, with their units.
NAMES = {
    "Pendulum-v1": {
        "observation_names": ["cos θ", "sin θ", "θ̇ / 8  (rad/s)"],
        "control_names": ["torque  (N m)"],
    }
}


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
      seed: Seed of the environments and the policy, an integer or several; the same seed gives
        identical arrays.
      policy: Callable (observations [num_sequences, dx], rng) -> actions [num_sequences, du];
        actions are clipped to the action space. Default: `OrnsteinUhlenbeck`.
      observation_scale: Divides the observations, [dx]. Default: (1, 1, 8) for Pendulum-v1, the
        bound of its angular velocity in rad/s, otherwise 1.

    Returns:
      `Sequences` with the spec that made them and, where the environment shows it, its `state`.
      An episode that ends early is a shorter sequence: its `mask` is False after its last frame.

    Raises:
      ValueError: If there is no such environment, a space is not a Box, an argument is out of its
        range, or the policy returns another shape.
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
        observations, controls, states, mask = _record(envs, num_steps, seeds, policy)
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
    if observation_scale is None:
        spec.update(NAMES.get(env_id, {}))
    return data.Sequences(observations / scale, controls, states, spec, mask)


def simulate(sequences):
    """Runs the true environment from each first state under the controls of `sequences`.

    Returns:
      Observations [sequences, time, dx] in the units of the data set, or None where the data do
      not say which environment made them or it is not installed.
    """
    spec = sequences.spec or {}
    if not {"env_id", "observation_scale"} <= set(spec) or sequences.states is None:
        return None
    try:
        envs = _make_envs(spec["env_id"], len(sequences))
    except ValueError:  # An environment that is not installed here.
        return None
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
    """Returns observations, clipped controls, states (or None) and mask, an episode a row."""
    env_seeds, policy_seeds = seeds.spawn(2)
    rng = np.random.default_rng(policy_seeds)
    seed_list = [int(seed) for seed in env_seeds.generate_state(envs.num_envs)]
    observations, _ = envs.reset(seed=seed_list)
    frames, controls, states = [observations.copy()], [], [_states(envs)]
    present = [np.ones(envs.num_envs, bool)]
    over = np.zeros(envs.num_envs, bool)
    for _ in range(1, num_steps):
        actions = np.asarray(policy(observations, rng), np.float32)
        if actions.shape != envs.action_space.shape:
            expected = envs.action_space.shape
            raise ValueError(f"`policy` must return shape {expected}; got {actions.shape}.")
        actions = np.clip(actions, envs.action_space.low, envs.action_space.high)
        observations, _, terminated, truncated, _ = envs.step(actions)
        present.append(~over)
        over |= terminated | truncated  # From the next step on it is another episode.
        frames.append(observations.copy())
        controls.append(actions)
        states.append(_states(envs))
    states = None if states[0] is None else np.stack(states, axis=1)
    return *(np.stack(rows, axis=1) for rows in (frames, controls)), states, np.stack(present, 1)


def _states(envs):
    """Returns the `state` of every environment, [num_envs, ds], or None where there is none."""
    states = [getattr(env.unwrapped, "state", None) for env in envs.envs]
    return None if states[0] is None else np.array(states, np.float64)
