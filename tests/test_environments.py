import warnings

import gymnasium
import numpy as np
import pytest

from tfp_dvbf import data
from tfp_dvbf.data import environments


def pendulum_step(state, torque):
    """Gymnasium's Pendulum-v1: dt 0.05 s, m = l = 1, g = 10, velocity bounded before the angle."""
    angle, velocity = state
    velocity = velocity + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05
    velocity = np.clip(velocity, -8, 8)
    return angle + velocity * 0.05, velocity


def test_alignment_with_the_true_physics(sequences):
    for t in range(sequences.observations.shape[1] - 1):
        state = np.moveaxis(sequences.states[:, t], -1, 0)
        angle, velocity = pendulum_step(state, sequences.controls[:, t, 0])
        expected = np.stack([np.cos(angle), np.sin(angle), velocity / 8], axis=-1)
        np.testing.assert_allclose(sequences.observations[:, t + 1], expected, atol=1e-5)


def test_simulate_reproduces_the_recording(sequences):
    np.testing.assert_allclose(environments.simulate(sequences), sequences.observations, atol=1e-6)
    shifted = environments.simulate(data.shift_controls(sequences))
    assert np.abs(shifted - sequences.observations).mean() > 1e-3
    assert environments.simulate(data.Sequences(sequences.observations, sequences.controls)) is None


def test_the_same_seed_gives_identical_arrays(sequences):
    again = environments.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=1)
    other = environments.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=2)
    for name in ["observations", "controls", "states"]:
        np.testing.assert_array_equal(getattr(sequences, name), getattr(again, name))
    first = np.concatenate([sequences.states[:, 0], other.states[:, 0]])
    assert len(np.unique(first, axis=0)) == 24


def test_collected_arrays(sequences):
    assert sequences.observations.shape == (12, 8, 3)
    assert sequences.controls.shape == (12, 7, 1)
    assert np.abs(sequences.controls).max() <= 2.0
    assert np.abs(sequences.observations).max() <= 1.0
    assert sequences.spec["observation_scale"] == [1.0, 1.0, 8.0]
    assert sequences.spec["seed"] == 1
    assert sequences.spec["time_step"] == 0.05
    assert sequences.spec["control_names"] == ["torque  (N m)"]


def test_ornstein_uhlenbeck_clips_its_output_only():
    rng = np.random.default_rng(0)
    policy = environments.OrnsteinUhlenbeck((5000, 1))
    noise = np.random.default_rng(0)
    action = np.zeros((5000, 1))
    for _ in range(3):
        action = 0.85 * action + 1.5 * noise.standard_normal(action.shape)
        np.testing.assert_allclose(policy(None, rng), action)
    assert np.abs(policy.action).max() > 2.0


def test_any_policy_and_any_box_environment():
    def push(observations, rng):
        return np.sign(observations[:, 1:])

    sequences = environments.collect("MountainCarContinuous-v0", 3, 6, seed=1, policy=push)
    np.testing.assert_array_equal(
        sequences.controls, np.sign(sequences.observations[:, :-1, 1:]).clip(-1, 1)
    )
    assert sequences.spec["policy"] == "push"
    assert sequences.spec["observation_scale"] == [1.0, 1.0]


def test_a_policy_must_return_an_action_for_each_environment():
    with pytest.raises(ValueError, match=r"`policy` must return shape \(3, 1\); got \(3,\)"):
        environments.collect("Pendulum-v1", 3, 6, policy=lambda x, rng: np.zeros(3))


class Short(gymnasium.Wrapper):
    """Pendulum that ends at its third step."""

    def reset(self, **kwargs):
        self.steps = 0
        return self.env.reset(**kwargs)

    def step(self, action):
        self.steps += 1
        observation, reward, _, truncated, info = self.env.step(action)
        return observation, reward, self.steps == 3, truncated, info


def test_an_episode_that_ends_early_is_a_shorter_sequence():
    name = "ShortPendulum-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, lambda: Short(gymnasium.make("Pendulum-v1")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # The end of an episode is no cut.
        whole = environments.collect(name, 2, 4, seed=1)
        longer = environments.collect(name, 2, 9, seed=1)
    assert whole.mask is None
    np.testing.assert_array_equal(longer.mask, 2 * [4 * [True] + 5 * [False]])
    np.testing.assert_array_equal(longer.observations[:, :4], whole.observations)
    assert not longer.observations[:, 4:].any() and not longer.controls[:, 3:].any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("CartPole-v1",), r"action_space of CartPole-v1 must be a Box of rank 1; got Discrete"),
        (("NoSuchEnv-v1",), r"`env_id` must name a Gymnasium environment; got 'NoSuchEnv-v1'"),
        (("Pendulum-v1", True), "`num_sequences` must be an integer; got True"),
        (("Pendulum-v1", 2, 3.0), "`num_steps` must be an integer; got 3.0"),
        (("Pendulum-v1", 2, 3, True), "`seed` must be an integer; got True"),
        (("Pendulum-v1", 2, 3, (1, -2)), "`seed` must be at least 0; got -2"),
        (("Pendulum-v1", 0), r"`num_sequences` must be at least 1; got 0"),
        (("Pendulum-v1", 2, 1), r"`num_steps` must be at least 2; got 1"),
        (("Pendulum-v1", 2, 3, 1, None, [1.0]), r"`observation_scale` must be 3 positive numbers"),
    ],
)
def test_collect_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        environments.collect(*arguments)


LIMIT = (
    r"20 steps were cut off 2 of 2 sequences by the limit of an episode of Pendulum-v1: pass "
    r"`max_episode_steps=210` to record them"
)


def test_steps_cut_off_by_the_limit_of_an_episode_are_counted():
    with pytest.warns(UserWarning, match=LIMIT):
        cut = environments.collect("Pendulum-v1", 2, 211, seed=1)
    np.testing.assert_array_equal(cut.mask, np.tile(np.arange(211) < 201, [2, 1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = environments.collect("Pendulum-v1", 2, 211, seed=1, max_episode_steps=210)
        environments.collect("Pendulum-v1", 2, 201, seed=1)
    assert whole.mask is None
    np.testing.assert_array_equal(whole.observations[:, :201], cut.observations[:, :201])
    assert np.ptp(whole.observations[:, 201:]) > 0
    np.testing.assert_allclose(environments.simulate(whole), whole.observations, atol=1e-5)


def test_options_of_the_environment_change_its_physics(tmp_path):
    heavy = environments.collect("Pendulum-v1", 3, 9, seed=1, g=3.0)
    earth = environments.collect("Pendulum-v1", 3, 9, seed=1)
    np.testing.assert_array_equal(heavy.states[:, 0], earth.states[:, 0])
    assert np.abs(heavy.observations - earth.observations)[:, 1:].max() > 0.01
    data.save(tmp_path / "heavy.npz", heavy)
    loaded = data.load(tmp_path / "heavy.npz")
    assert loaded.spec["env_options"] == {"g": 3.0}
    np.testing.assert_allclose(environments.simulate(loaded), heavy.observations, atol=1e-6)


def test_sizes_and_seeds_of_numpy(tmp_path):
    sizes = map(np.int64, [12, 8, 1])
    again = environments.collect("Pendulum-v1", *sizes, max_episode_steps=np.int64(30))
    data.save(tmp_path / "again.npz", again)
    assert data.load(tmp_path / "again.npz").spec["seed"] == 1
    seeds = environments.collect("Pendulum-v1", 2, 3, seed=(np.int64(3), 1))
    assert seeds.spec["seed"] == [3, 1]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gravity": 1.0}, "`env_options` must be options of Pendulum-v1; got .*'gravity'"),
        ({"g": np.float32(1)}, "`env_options` must be JSON values, to be kept with the data; got"),
        ({"max_episode_steps": 0}, "`max_episode_steps` must be at least 1; got 0"),
        ({"max_episode_steps": True}, "`max_episode_steps` must be an integer; got True"),
    ],
)
def test_collect_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        environments.collect("Pendulum-v1", 2, 3, **options)


class Jitter(gymnasium.ObservationWrapper):
    """Pendulum whose first observation is 14.62 but for the rounding of float32."""

    def observation(self, observation):
        observation[0] = np.nextafter(np.float32(14.62), np.float32(20 * (observation[1] > 0)))
        return observation


def test_rounding_in_float32_is_no_change_of_a_constant():
    name = "JitterPendulum-v0"
    if name not in gymnasium.registry:
        gymnasium.register(
            name, lambda: Jitter(gymnasium.make("Pendulum-v1")), disable_env_checker=True
        )
    sequences = environments.collect(name, 4, 5, seed=1, observation_scale=[3.0, 1.0, 8.0])
    assert 0 < np.ptp(sequences.observations[..., 0]) < 1e-6
