"""Images of environments: what is in them, and one line where there are none."""

import gymnasium
import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf.data import environments, rendering


@pytest.fixture(scope="module")
def pixels():
    options = {"observation": "pixels", "size": (16, 12), "grey": True}
    return tfp_dvbf.collect("Pendulum-v1", 3, 5, seed=1, **options)


def test_images_are_of_the_states_that_vectors_are_of(pixels):
    assert pixels.observations.shape == (3, 5, 16, 12, 1)
    assert pixels.observations.dtype == np.uint8
    vectors = tfp_dvbf.collect("Pendulum-v1", 3, 5, seed=1)
    np.testing.assert_array_equal(pixels.states, vectors.states)
    np.testing.assert_array_equal(pixels.controls, vectors.controls)
    assert pixels.spec["image"] == {"size": [16, 12], "grey": True}
    assert "observation_scale" not in pixels.spec and pixels.spec["time_step"] == 0.05
    assert environments.simulate(pixels) is None


def test_the_rod_is_where_the_angle_says(pixels):
    """The centre of what is dark lies on the side of the rod, seen from the axle."""
    dark = 255.0 - pixels.observations[..., 0]
    rows, columns = np.mgrid[:16, :12]
    total = dark.sum(axis=(2, 3))
    up = 7.5 - (dark * rows).sum(axis=(2, 3)) / total
    left = 5.5 - (dark * columns).sum(axis=(2, 3)) / total
    angle = pixels.states[..., 0]
    assert np.corrcoef(up.ravel(), np.cos(angle).ravel())[0, 1] > 0.99
    assert np.corrcoef(left.ravel(), np.sin(angle).ravel())[0, 1] > 0.99


def test_the_torque_is_not_in_the_image():
    """What is shown after a step is the state alone, as before the first control."""
    plain = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    shown = rendering.show(gymnasium.make("Pendulum-v1", render_mode="rgb_array"))
    for env in [plain, shown]:
        env.reset(seed=1)
    image = shown.step(np.array([2.0], np.float32))[0]
    plain.unwrapped.state = shown.unwrapped.state
    np.testing.assert_array_equal(image, plain.render())
    plain.unwrapped.last_u = 2.0
    assert np.any(image != plain.render())
    for env in [plain, shown]:
        env.close()


def test_a_pixel_is_the_mean_over_its_area():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    weights = rendering.area_weights(4, 2), rendering.area_weights(6, 3)
    expected = np.rint(image.reshape(2, 2, 3, 2, 3).mean(axis=(1, 3)))
    np.testing.assert_array_equal(rendering.shrink(image, *weights), expected)
    np.testing.assert_allclose(
        rendering.area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6
    )


class Blind(gymnasium.Env):
    """An environment that renders nothing."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


class Painter(Blind):
    """An environment whose `render` does what its test wants."""

    metadata = {"render_modes": ["rgb_array"]}
    images = {
        "float": np.zeros([8, 8, 3], np.float32),
        "flat": np.zeros([8, 8], np.uint8),
        "alpha": np.zeros([8, 8, 4], np.uint8),
        "list": [np.zeros([8, 8, 3], np.uint8)],
    }
    failures = {
        "runtime": RuntimeError("no display\nat all"),
        "module": ModuleNotFoundError("No module named 'paint'"),
        "dependency": gymnasium.error.DependencyNotInstalled("paint is not installed"),
        "abstract": NotImplementedError(),
    }

    def __init__(self, kind, render_mode=None):
        self.kind = kind
        self.render_mode = None if kind == "no mode" else render_mode

    def render(self):
        if self.kind in self.failures:
            raise self.failures[self.kind]
        return self.images[self.kind]


CANNOT = "`observation` pixels needs an environment that renders; tests/Painter-v0 does not: "
WRONG = r"renders images, uint8 \[height, width, 3\]; tests/Painter-v0 renders "


@pytest.mark.parametrize(
    "kind, message",
    [
        ("float", WRONG + r"float32 of shape \(8, 8, 3\)"),
        ("flat", WRONG + r"uint8 of shape \(8, 8\)"),
        ("alpha", WRONG + r"uint8 of shape \(8, 8, 4\)"),
        ("list", WRONG + "a list"),
        ("no mode", CANNOT + "its `render_mode` is None"),
        ("runtime", CANNOT + "no display$"),
        ("module", CANNOT + "No module named 'paint'"),
        ("dependency", CANNOT + "paint is not installed"),
        ("abstract", CANNOT + "NotImplementedError"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_rendered_must_be_an_image(kind, message):
    if "tests/Painter-v0" not in gymnasium.registry:
        gymnasium.register("tests/Painter-v0", entry_point=Painter)
    with pytest.raises(ValueError, match=message):
        tfp_dvbf.collect("tests/Painter-v0", 1, 3, observation="pixels", kind=kind)


def test_other_names_and_types_of_the_same_image(pixels):
    options = {"observation": "rgb_array", "size": np.array([16, 12]), "grey": np.bool_(True)}
    again = tfp_dvbf.collect("Pendulum-v1", 3, 5, seed=1, **options)
    np.testing.assert_array_equal(again.observations, pixels.observations)
    assert again.spec == pixels.spec


@pytest.mark.parametrize(
    "env_id, arguments, message",
    [
        ("Pendulum-v1", {"observation": "pixel"}, "`observation` must be one of state, pixels; .*"),
        ("Pendulum-v1", {"size": (8, 8)}, "`size` and `grey` are for the observation `pixels` a"),
        ("Pendulum-v1", {"grey": True}, "`size` and `grey` are for the observation `pixels` alone"),
        ("Pendulum-v1", {"observation": "pixels", "size": 16}, "`size` must be a height and a wid"),
        ("Pendulum-v1", {"observation": "pixels", "size": (0, 1)}, "`size` must be at least 1"),
        (
            "Pendulum-v1",
            {"observation": "pixels", "size": (16, 501)},
            "`size` must be at most the ",
        ),
        (
            "Pendulum-v1",
            {"observation": "pixels", "observation_scale": [1.0]},
            "`observation_scale` is not for images; the emission has their range",
        ),
        (
            "Pendulum-v1",
            {"observation": "pixels", "grey": "no"},
            "`grey` must be True or False; .*",
        ),
        (
            "Pendulum-v1",
            {"observation": "pixels", "grey": 2},
            "`grey` must be True or False; got 2",
        ),
        ("Pendulum-v1", {"grey": None}, "`grey` must be True or False; got None"),
        ("Pendulum-v1", {"observation": "pixels", "size": np.array(16)}, "`size` must be a height"),
        (
            "Pendulum-v1",
            {"observation": "pixels", "render_mode": "human"},
            "`render_mode` must be left out for `observation` pixels, which sets it",
        ),
        (
            "Pendulum-v1",
            {"observation": "pixels", "wrappers": []},
            "`wrappers` must be left out for `observation` pixels, which sets it",
        ),
        ("Pendulum-v1", {"observations": "pixels"}, r"; did you mean `observation`\?"),
        ("Pendulum-v1", {"observation": "pixels", "gray": True}, r"; did you mean `grey`\?"),
        ("Missing-v1", {"observation": "pixels"}, "`env_id` must name a Gymnasium environment"),
        ("Pendulum-v1", {"observation": "pixels", "h": 1}, "`env_options` must be options of Pen"),
        (
            "tests/Blind-v0",
            {"observation": "pixels"},
            "`observation` pixels needs an environment that renders; tests/Blind-v0 does not",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_input_is_one_line(env_id, arguments, message):
    if "tests/Blind-v0" not in gymnasium.registry:
        gymnasium.register("tests/Blind-v0", entry_point=Blind)
    with pytest.raises(ValueError, match=message) as refusal:
        tfp_dvbf.collect(env_id, 1, 3, **arguments)
    assert "\n" not in str(refusal.value)
