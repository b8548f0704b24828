"""Sequences from Gymnasium environments."""

import difflib
import inspect
import json
import warnings
from typing import NamedTuple

import gymnasium
import numpy as np

from tfp_dvbf import data, errors
from tfp_dvbf.data import rendering

# What the spec keeps of an environment's arguments, images aside.
OPTIONS = ("max_episode_steps", "env_options")

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
    env_id,
    num_sequences=500,
    num_steps=50,
    seed=None,
    policy=None,
    observation_scale=None,
    max_episode_steps=None,
    observation="state",
    size=None,
    grey=False,
    **env_options,
):
    """Records sequences from a Gymnasium environment.

    Of images, whose values are uint8 from 0 to 255, what moved last is left out where it is drawn:
    the arrow of the torque in Pendulum-v1.

    Args:
      env_id: Name of an environment with Box observations and actions, such as "Pendulum-v1".
      num_sequences: Number of sequences, each with an initial state of its own.
      num_steps: Number of observations T of each; T - 1 controls act between them.
      seed: Seed of the environments and the policy, an integer or several; the same seed gives
        identical arrays.
      policy: Callable (observations [num_sequences, *observation_shape], rng) -> actions
        [num_sequences, du]; actions are clipped to the action space. Default: `OrnsteinUhlenbeck`.
      observation_scale: Divides the observations, [dx]. Default: (1, 1, 8) for Pendulum-v1, the
        bound of its angular velocity in rad/s, otherwise 1. Images have none.
      max_episode_steps: Actions after which an episode ends. Default: the limit of the environment,
        200 for Pendulum-v1.
      observation: "state", what the environment returns, or "pixels" (or "rgb_array"), its image.
      size: Height and width of images in pixels, at most those that the environment renders; each
        pixel is the mean over its area. Default: as rendered.
      grey: Whether images have one channel in place of three.
      **env_options: Further arguments of the environment, such as `g=9.81` (m/s^2) for Pendulum-v1.

    Returns:
      `Sequences` with the spec that made them and, where the environment shows it, its `state`.
      An episode that ends early is a shorter sequence: its `mask` is False after its last step. A
      warning counts the steps that the limit of an episode cuts off.

    Raises:
      ValueError: If there is no such environment, a space is not a Box, an argument is out of its
        range or unknown to the environment, or the policy returns another shape.
    """
    sizes = {
        "num_sequences": errors.check_integer("num_sequences", num_sequences, least=1),
        "num_steps": errors.check_integer("num_steps", num_steps, least=2),
    }
    seeds = np.random.SeedSequence(_check_seed(seed))
    image = rendering.check_image(observation, size, grey)
    if image is not None and observation_scale is not None:
        raise ValueError("`observation_scale` is not for images; the emission has their range.")
    options = _check_options(env_options, max_episode_steps, image)
    envs = _make_envs(env_id, sizes["num_sequences"], **options)
    try:
        scale = None
        if image is None:
            scale = _observation_scale(env_id, observation_scale, envs.single_observation_space)
        policy, policy_name = _named_policy(policy, envs.action_space.shape)
        recording = _record(envs, sizes["num_steps"], seeds, policy)
        time_step = getattr(envs.envs[0].unwrapped, "dt", None)
    finally:
        envs.close()
    _warn_of_cuts(env_id, recording)
    spec = {"env_id": env_id, "gymnasium": gymnasium.__version__, **sizes, "seed": seeds.entropy}
    spec |= {"policy": policy_name, **options}
    if time_step is not None:
        spec["time_step"] = time_step
    observations, about = _scaled(env_id, recording.observations, scale, observation_scale is None)
    rest = recording.controls, recording.states, spec | about, recording.mask
    return data.Sequences(observations, *rest)


def _named_policy(policy, shape):
    """Returns a policy, by default `OrnsteinUhlenbeck`, and what the spec calls it."""
    if policy is not None:
        return policy, getattr(policy, "__name__", None) or type(policy).__name__
    policy = OrnsteinUhlenbeck(shape)
    return policy, f"OrnsteinUhlenbeck(theta={policy.theta}, sigma={policy.sigma})"


def _scaled(env_id, given, scale, is_default):
    """Returns observations divided by `scale`, images as they are, and what the spec says of it."""
    if scale is None:
        return given, {}
    # In float64, the rounding of a float32 environment would look like changes of a constant.
    observations = (given / scale).astype(np.result_type(given.dtype, np.float32), copy=False)
    names = NAMES.get(env_id, {}) if is_default else {}
    return observations, {"observation_scale": scale.tolist(), **names}


def _check_seed(seed):
    """Returns a seed as an int or a list of ints, which a spec can hold, or None."""
    if isinstance(seed, (tuple, list, np.ndarray)):
        return [errors.check_integer("seed", each, least=0) for each in seed]
    return None if seed is None else errors.check_integer("seed", seed, least=0)


def _check_options(env_options, max_episode_steps, image):
    """Returns the options of an environment that were given, as the spec keeps them."""
    try:
        json.dumps(env_options)
    except TypeError as error:
        rule = "`env_options` must be JSON values, to be kept with the data"
        raise ValueError(f"{rule}; got {env_options}.") from error
    options = {}
    if max_episode_steps is not None:
        options["max_episode_steps"] = errors.check_integer("max_episode_steps", max_episode_steps)
    if env_options:
        options["env_options"] = env_options
    if image is not None:
        options["image"] = image._asdict()
    return options


def _warn_of_cuts(env_id, recording):
    cut = recording.is_truncated
    num_missing = np.count_nonzero(~recording.mask[cut])
    if num_missing:
        num_sequences, num_steps = recording.mask.shape
        warnings.warn(
            f"{num_missing} steps were cut off {np.count_nonzero(cut)} of {num_sequences} "
            f"sequences by the limit of an episode of {env_id}: pass "
            f"`max_episode_steps={num_steps - 1}` to record them.",
            stacklevel=3,
        )


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
        options = {name: spec[name] for name in OPTIONS if name in spec}
        envs = _make_envs(spec["env_id"], len(sequences), **options)
    except ValueError:  # An environment that is not installed here.
        return None
    try:
        observations, _ = envs.reset(seed=0)
        for env, state in zip(envs.envs, sequences.states[:, 0]):
            env.unwrapped.state = state
        steps = [sequences.observations[:, 0] * spec["observation_scale"]]
        for actions in np.swapaxes(sequences.controls, 0, 1):
            observations, *_ = envs.step(actions)
            steps.append(observations)
    finally:
        envs.close()
    return (np.stack(steps, axis=1) / spec["observation_scale"]).astype(np.float32)


def _make_envs(env_id, num_envs, max_episode_steps=None, env_options=None, image=None):
    options = dict(env_options or {})
    if max_episode_steps is not None:
        options["max_episode_steps"] = max_episode_steps
    if image is not None:
        options |= rendering.options_of(image, options)
    try:
        envs = gymnasium.make_vec(env_id, num_envs=num_envs, vectorization_mode="sync", **options)
    except gymnasium.error.Error as error:
        rule = f"`env_id` must name a Gymnasium environment; got {env_id!r}"
        raise ValueError(f"{rule}: {errors.first_line(error)}") from error
    except (TypeError, AssertionError, NotImplementedError) as error:
        rule = f"`env_options` must be options of {env_id}; got {env_options}"
        if image is not None and not env_options:
            rule = rendering.refusal(env_id)
        raise ValueError(f"{rule}: {errors.first_line(error)}{_hint(env_options)}") from error
    ranks = {"observation_space": 1 if image is None else 3, "action_space": 1}
    for name, rank in ranks.items():
        space = getattr(envs, f"single_{name}")
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != rank:
            envs.close()
            raise ValueError(f"The {name} of {env_id} must be a Box of rank {rank}; got {space}.")
    return envs


def _hint(env_options):
    """Returns the question whether an argument of `collect` is misspelt, "" if none is like it."""
    names = set(inspect.signature(collect).parameters) - {"env_options"}
    near = [each for name in env_options or {} for each in difflib.get_close_matches(name, names)]
    return f"; did you mean `{near[0]}`?" if near else ""


def _observation_scale(env_id, observation_scale, space):
    shape = space.shape
    if observation_scale is None:
        observation_scale = OBSERVATION_SCALES.get(env_id, np.ones(shape))
    scale = np.asarray(observation_scale, np.float64)
    if scale.shape != shape or not np.all(scale > 0):
        raise ValueError(f"`observation_scale` must be {shape[0]} positive numbers; got {scale}.")
    return scale


class Recording(NamedTuple):
    """What one pass through the environments gives, an episode a row.

    Attributes:
      observations: [num_envs, time, dx], in the unit of the environment.
      controls: Clipped actions [num_envs, time - 1, du]; NaN from the end of an episode on.
      states: The environments' own states, [num_envs, time, ds], or None.
      mask: Whether a step belongs to the episode, bool [num_envs, time].
      is_truncated: Whether the limit of an episode ended it early, bool [num_envs].
    """

    observations: np.ndarray
    controls: np.ndarray
    states: np.ndarray | None
    mask: np.ndarray
    is_truncated: np.ndarray


def _record(envs, num_steps, seeds, policy):
    """Returns the `Recording` of `num_steps` observations of every environment."""
    env_seeds, policy_seeds = seeds.spawn(2)
    rng = np.random.default_rng(policy_seeds)
    seed_list = [int(seed) for seed in env_seeds.generate_state(envs.num_envs)]
    observations, _ = envs.reset(seed=seed_list)
    rows = [observations.copy()], [], [_states(envs)], [np.ones(envs.num_envs, bool)]
    over, is_truncated = np.zeros([2, envs.num_envs], bool)
    for _ in range(1, num_steps):
        actions = _actions(envs, policy, observations, rng)
        observations, _, terminated, truncated, _ = envs.step(actions)
        actions[over] = np.nan  # Gymnasium ignores this one: it starts another episode.
        for column, step in zip(rows, [observations.copy(), actions, _states(envs), ~over]):
            column.append(step)
        is_truncated |= truncated & ~terminated & ~over
        over |= terminated | truncated
    observations, controls, states, mask = (
        None if column[0] is None else np.stack(column, axis=1) for column in rows
    )
    return Recording(observations, controls, states, mask, is_truncated)


def _actions(envs, policy, observations, rng):
    """Returns what a policy does, clipped to the action space, [num_envs, du]."""
    actions, space = np.asarray(policy(observations, rng), np.float32), envs.action_space
    if actions.shape != space.shape:
        raise ValueError(f"`policy` must return shape {space.shape}; got {actions.shape}.")
    return np.clip(actions, space.low, space.high)


def _states(envs):
    """Returns the `state` of every environment, [num_envs, ds], or None where there is none."""
    states = [getattr(env.unwrapped, "state", None) for env in envs.envs]
    return None if states[0] is None else np.array(states, np.float64)
