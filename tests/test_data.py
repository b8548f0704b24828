import json
import pickle

import gymnasium
import numpy as np
import pytest

from tfp_dvbf import data


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
    np.testing.assert_allclose(data.simulate(sequences), sequences.observations, atol=1e-6)
    shifted = data.simulate(data.shift_controls(sequences))
    assert np.abs(shifted - sequences.observations).mean() > 1e-3
    assert data.simulate(data.Sequences(sequences.observations, sequences.controls)) is None


def test_the_same_seed_gives_identical_arrays(sequences):
    again = data.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=1)
    other = data.collect("Pendulum-v1", num_sequences=12, num_steps=8, seed=2)
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


def test_ornstein_uhlenbeck_clips_its_output_only():
    rng = np.random.default_rng(0)
    policy = data.OrnsteinUhlenbeck((5000, 1))
    noise = np.random.default_rng(0)
    action = np.zeros((5000, 1))
    for _ in range(3):
        action = 0.85 * action + 1.5 * noise.standard_normal(action.shape)
        np.testing.assert_allclose(policy(None, rng), action)
    assert np.abs(policy.action).max() > 2.0


def test_any_policy_and_any_box_environment():
    def push(observations, rng):
        return np.sign(observations[:, 1:])

    sequences = data.collect("MountainCarContinuous-v0", 3, 6, seed=1, policy=push)
    np.testing.assert_array_equal(
        sequences.controls, np.sign(sequences.observations[:, :-1, 1:]).clip(-1, 1)
    )
    assert sequences.spec["policy"] == "push"
    assert sequences.spec["observation_scale"] == [1.0, 1.0]


class Short(gymnasium.Wrapper):
    """Pendulum that ends at its third step."""

    def reset(self, **kwargs):
        self.steps = 0
        return self.env.reset(**kwargs)

    def step(self, action):
        self.steps += 1
        observation, reward, _, truncated, info = self.env.step(action)
        return observation, reward, self.steps == 3, truncated, info


def test_an_episode_that_ends_early_is_an_error():
    name = "ShortPendulum-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, lambda: Short(gymnasium.make("Pendulum-v1")))
    assert data.collect(name, 2, 4, seed=1).observations.shape == (2, 4, 3)
    with pytest.raises(ValueError, match="`num_steps` = 6 observations; episode 0 ended after 4"):
        data.collect(name, 2, 6, seed=1)


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
        data.collect(*arguments)


GOOD = np.zeros((4, 5, 3)), np.zeros((4, 4, 1))


@pytest.mark.parametrize(
    "observations, controls, message",
    [
        (np.zeros((4, 5)), GOOD[1], r"`observations` must have shape \[batch, time, dim\]; got \("),
        (np.zeros((0, 5, 3)), GOOD[1], r"`observations` must have shape .* got \(0, 5, 3\)"),
        (np.zeros((4, 1, 3)), GOOD[1], r"`observations` must have at least 2 steps; got 1"),
        (
            GOOD[0],
            np.zeros((4, 3, 1)),
            r"`controls` must have shape \[4, 4 or 5, dim\]; got \(4, 3",
        ),
        (
            GOOD[0],
            np.zeros((3, 4, 1)),
            r"`controls` must have shape \[4, 4 or 5, dim\]; got \(3, 4",
        ),
        (GOOD[0], np.zeros((4, 4)), r"`controls` must have shape \[4, 4 or 5, dim\]; got \(4, 4\)"),
        (GOOD[0].astype(str), GOOD[1], r"`observations` must be numeric; got dtype <U"),
        (GOOD[0].astype(object), GOOD[1], r"`observations` must be numeric; got dtype object"),
    ],
)
def test_sequences_refuse(observations, controls, message):
    with pytest.raises(ValueError, match=message):
        data.Sequences(observations, controls)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_sequences_name_the_first_value_that_is_not_finite(value):
    controls = GOOD[1].copy()
    controls[2, 3, 0] = controls[3, 1, 0] = value
    message = f"`controls` must be finite; got {value} in sequence 2, step 3, dimension 0"
    with pytest.raises(ValueError, match=message):
        data.Sequences(GOOD[0], controls)


def test_a_last_control_is_dropped():
    controls = np.arange(20.0).reshape(4, 5, 1)
    sequences = data.Sequences(GOOD[0], controls)
    np.testing.assert_array_equal(sequences.controls, controls[:, :4])


def test_save_and_load(sequences, tmp_path):
    path = tmp_path / "data.npz"
    data.save(path, sequences)
    loaded = data.load(path)
    for name in ["observations", "controls", "states"]:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(sequences, name))
    assert len(loaded.spec.pop("sha256")) == 64
    assert loaded.spec == sequences.spec
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]


def test_load_takes_what_anyone_can_write(tmp_path):
    np.savez(tmp_path / "mine.npz", observations=GOOD[0], controls=GOOD[1])
    sequences = data.load(tmp_path / "mine.npz")
    assert sequences.states is None and sequences.spec is None


def write_truncated(path):
    np.savez(path, observations=GOOD[0], controls=GOOD[1])
    path.write_bytes(path.read_bytes()[:-200])


def write_changed(path):
    arrays = {"observations": GOOD[0], "controls": GOOD[1]}
    spec = json.dumps({"sha256": data.content_hash(arrays)})
    np.savez(path, observations=GOOD[0] + 1, controls=GOOD[1], spec=spec)


def write_with(**arrays):
    return lambda path: np.savez(path, **arrays)


@pytest.mark.parametrize(
    "write, message",
    [
        (write_truncated, "must be an .npz file of numeric arrays"),
        (lambda path: path.write_text("x,y\n1,2\n"), "must be an .npz file of numeric arrays"),
        (lambda path: path.write_bytes(pickle.dumps({})), "must be an .npz file of numeric arrays"),
        (write_changed, "is corrupt: its content does not match its sha256"),
        (write_with(observations=GOOD[0]), "it lacks {'controls'}"),
        (
            write_with(observations=np.array([{}]), controls=GOOD[1]),
            "must be an .npz file of numeric arrays",
        ),
        (
            write_with(observations=GOOD[0], controls=GOOD[1], mask=np.zeros((4, 5))),
            "which is not supported yet",
        ),
        (
            write_with(observations=GOOD[0], controls=GOOD[1], spec="not json"),
            "`spec` must be JSON",
        ),
    ],
)
def test_load_refuses(tmp_path, write, message):
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(ValueError, match=message):
        data.load(path)


def orders(dataset, epochs):
    return [
        np.concatenate([batch["observations"][:, 0, 0] for batch in dataset]) for _ in range(epochs)
    ]


def test_as_dataset_batches_in_order(sequences):
    dataset = data.as_dataset(sequences, batch_size=5)
    shapes = [(b["observations"].shape, b["controls"].shape) for b in dataset]
    assert shapes == [((5, 8, 3), (5, 7, 1))] * 2 + [((2, 8, 3), (2, 7, 1))]
    assert len(dataset) == 3
    np.testing.assert_array_equal(orders(dataset, 1)[0], sequences.observations[:, 0, 0])


def test_as_dataset_shuffles_by_seed_and_epoch(sequences):
    first = orders(data.as_dataset(sequences, 5, seed=1), 3)
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(np.sort(first[0]), np.sort(sequences.observations[:, 0, 0]))
    resumed = orders(data.as_dataset(sequences, 5, seed=1, first_epoch=1), 2)
    np.testing.assert_array_equal(first[1:], resumed)
    assert not np.array_equal(first[0], orders(data.as_dataset(sequences, 5, seed=2), 1)[0])


def test_as_dataset_pairs_controls_with_their_observations(sequences):
    for batch in data.as_dataset(sequences, 5, seed=1):
        for x, u in zip(batch["observations"].numpy(), batch["controls"].numpy()):
            index = np.flatnonzero((sequences.observations == x).all(axis=(1, 2)))
            np.testing.assert_array_equal(u, sequences.controls[index[0]])


def test_as_dataset_refuses_an_empty_batch(sequences):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        data.as_dataset(sequences, batch_size=0)


def test_shift_controls(sequences):
    shifted = data.shift_controls(sequences)
    np.testing.assert_array_equal(shifted.controls[:, 0], 0.0)
    np.testing.assert_array_equal(shifted.controls[:, 1:], sequences.controls[:, :-1])
    np.testing.assert_array_equal(shifted.observations, sequences.observations)
