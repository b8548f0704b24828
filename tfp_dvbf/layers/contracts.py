"""What parts owe a model: each is called once when the model is made, and what it returns checked.

A part whose own code fails is named in one line, where Keras would tell of its layers in ten.
"""

import contextlib

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_dvbf import errors

tfd = tfp.distributions
NORMAL = tfd.MultivariateNormalLinearOperator


@contextlib.contextmanager
def named(kind, task):
    """Turns what a part raises into a ValueError: "`kind` failed to `task`", and why."""
    try:
        yield
    except Exception as error:
        reason = errors.first_line(error)
        raise ValueError(f"`{kind}` failed to {task}: {reason}") from error


def build(kind, built, spec):
    """Builds a `Part` with a `Spec`."""
    with named(kind, "build"):
        built.build(spec)
    if getattr(built, "spec", None) is None:
        raise ValueError(f"`build` of the {kind} must end with `super().build(spec)`.")


def check_transition(transition, spec):
    """Calls a `Transition` on zeros, which makes its networks; raises ValueError if it is wrong."""
    states, controls = tf.zeros([1, spec.state_dim]), tf.zeros([1, spec.control_dim])
    with named("transition", f"map states {states.shape} and controls {controls.shape}"):
        density = transition(states, controls)
    check_density("transition", density, [spec.state_dim], NORMAL)
    with named("transition", "give p(z[0])"):
        initial = transition.initial()
    check_density("transition.initial()", initial, [spec.state_dim], NORMAL, batch=[])


def check_emission(emission, spec):
    """Calls an `Emission` on zeros; raises ValueError if its density is wrong or has no moments."""
    states = tf.zeros([1, spec.state_dim])
    with named("emission", f"map states {states.shape}"):
        density = emission(states)
    check_density("emission", density, spec.observation_shape, tfd.Distribution)
    with named("emission", "give a mean and a variance"):
        moments = {"mean": density.mean(), "variance": density.variance()}
    for name, value in moments.items():
        if np.any(np.isnan(value)):
            raise ValueError(f"`emission` must return a distribution that has a {name}.")
    with named("emission", "give an innovation"):
        innovation = emission.innovation(states, moments["mean"])
    check_tensor("emission.innovation", innovation, [1, spec.observation_size])


def check_density(name, density, event_shape, kind, batch=(1,)):
    """Raises ValueError unless a part returned a distribution of the right kind and shapes."""
    if not isinstance(density, kind):
        wanted = {tfd.Distribution: "distribution", NORMAL: "multivariate normal"}
        raise ValueError(
            f"`{name}` must return a {wanted.get(kind, kind.__name__)} of TFP; "
            f"got {type(density).__name__}."
        )
    if kind is not tfd.Distribution and density.loc is None:
        raise ValueError(f"`{name}` must return a normal that is given a `loc`.")
    found = list(density.batch_shape), list(density.event_shape)
    expected = list(batch), list(event_shape)
    if found != expected:
        raise ValueError(
            f"`{name}` must return a distribution of batch shape {expected[0]} and event shape "
            f"{expected[1]}; got {found[0]} and {found[1]}."
        )


def check_tensor(name, tensor, shape):
    """Raises ValueError unless a part returned a tensor of that shape."""
    found = list(tensor.shape) if tf.is_tensor(tensor) else type(tensor).__name__
    if found != list(shape):
        raise ValueError(f"`{name}` must return a tensor of shape {list(shape)}; got {found}.")
