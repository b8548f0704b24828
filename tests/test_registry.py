"""Parts as names, configs and objects, and what is refused in their place."""

import models
import pytest
import tensorflow as tf
import tf_keras

import tfp_dvbf
from tfp_dvbf import layers, posteriors, registry


@tf_keras.utils.register_keras_serializable("tests")
class Registered(layers.MLPTransition):
    """A user's own transition."""


class Unregistered(layers.MLPTransition):
    """One that Keras does not know."""


def transition_of(identifier):
    model = tfp_dvbf.DVBF(3, 1, 2, transition=identifier, seed=1)
    return model.state_space_model.transition


def test_a_part_is_a_name_a_config_or_an_object():
    config = tf_keras.saving.serialize_keras_object(layers.LocallyLinearTransition(3, (8,)))
    for identifier in [config, layers.LocallyLinearTransition(3, (8,))]:
        found = transition_of(identifier)
        assert type(found) is layers.LocallyLinearTransition
        assert found.num_bases == 3 and found.hidden_units == (8,)
    for name in registry.names("transition"):
        found = transition_of(name)
        assert registry.name_of("transition", found) == name
    assert type(transition_of("tests>Registered")) is Registered
    assert registry.name_of("transition", Registered()) == "Registered"


@pytest.mark.parametrize("kind", registry.PARTS)
def test_the_docstring_of_dvbf_has_every_name(kind):
    about = tfp_dvbf.DVBF.__doc__.split(f"      {kind}: ")[1].split("\n      e")[0]
    assert all(f'"{name}"' in about for name in registry.names(kind))


@pytest.mark.parametrize("kind", registry.PARTS)
def test_every_name_makes_a_part_of_its_kind(kind):
    for name in registry.names(kind):
        part = registry.resolve(kind, name)
        assert registry.name_of(kind, part) == name
        assert registry.resolve(kind, part) is part


def test_a_part_of_another_model_is_refused():
    transition = layers.MLPTransition((8,))
    transition_of(transition)
    with pytest.raises(ValueError) as refusal:
        transition_of(transition)
    assert str(refusal.value) == (
        "`transition` must belong to no other model; make a new part for each model."
    )


def config_of(part):
    return tf_keras.saving.serialize_keras_object(part)


REGISTERED = "`transition` must be a config of a class registered with "


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"transition": layers.MLPTransition},
            "a config or an object of class Transition; got MLPTransition, a class",
        ),
        ({"posterior": posteriors.IAF}, "a config or an object .* Posterior; got IAF, a class"),
        (
            {"transition": layers.GaussianEmission()},
            r"`transition` must be a name \(mlp, .*, rotation\), a config .* Transition; got <",
        ),
        (
            {"encoder": 3},
            r"`encoder` must be a name \(filter, .*convolutional\), a config .*; got 3",
        ),
        (
            {"emission": None},
            "`emission` must be a name .* or an object of class Emission; got None",
        ),
        (
            {"transition": config_of(layers.GaussianEmission())},
            "`transition` must be a name .* or an object of class Transition; got <",
        ),
        (
            {"transition": "tfp_dvbf>GaussianEmission"},
            "`transition` must be a name .* or an object of class Transition; got <",
        ),
        ({"transition": "mpl"}, "`transition` must be one of .*; got 'mpl'; did you mean 'mlp'"),
        (
            {"posterior": "trajectory-iaf"},
            "`posterior` must be one of .*; got 'trajectory-iaf'; did you mean 'trajectory_iaf'",
        ),
        ({"transition": config_of(Unregistered())}, f"{REGISTERED}.*; got .*Unregistered"),
        ({"transition": {"class_name": "Dense"}}, f"{REGISTERED}.*; got Dense"),
        (
            {"transition": tf.keras.layers.Dense(2)},
            "got a Keras 3 object, Dense .this package takes those of tf_keras.",
        ),
    ],
)
def test_what_is_no_part_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as refusal:
        models.make(**arguments)
    assert "\n" not in str(refusal.value)
