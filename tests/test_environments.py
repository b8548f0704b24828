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
    whole = environments.collect(name, 2, 4, seed=1)
    assert whole.mask is None
    longer = environments.collect(name, 2, 9, seed=1)
    np.testing.assert_array_equal(longer.mask, 2 * [4 * [True] + 5 * [False]])
    np.testing.assert_array_equal(longer.observations[:, :4], whole.observations)
    assert not longer.observations[:, 4:].any() and not longer.controls[:, 3:].any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("CartPole-v1",), r"action_space of CartPole-v1 must be a Box of rank 1; got Discrete"),
        (("NoSuchEnv-v1",), r"`env_id` must name a Gymnasium environment; got 'NoSuchEnv-v1'"),
        (("Pendulum-v1", 0), r"`num_sequences` must be at least 1; got 0"),
        (("Pendulum-v1", 2, 1), r"`num_steps` must be at least 2; got 1"),
        (("Pendulum-v1", 2, 3, 1, None, [1.0]), r"`observation_scale` must be 3 positive numbers"),
    ],
)
def test_collect_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        environments.collect(*arguments)
