"""What of our model the peers are handed: its weights by name, masks and constants."""

import tensorflow as tf

from tfp_dvbf import registry
from tfp_dvbf.experiments.benchmarking import agreement, processes
from tfp_dvbf.layers import flows, networks

# The weights of a MADE with one hidden layer, in their order.
MADE = ("states/kernel", "states/bias", "context/kernel", "parameters/kernel", "parameters/bias")


def constants(model):
    """Returns the `agreement.Constants` of a model."""
    return agreement.Constants(
        initial_scale=networks.INITIAL_SCALE,
        scale_floor=networks.SCALE_FLOOR,
        transition_floor=model.state_space_model.transition.noise_floor,
        emission_floor=model.state_space_model.emission.noise_floor,
        emission_speed=networks.SCALE_SPEED,
        state_bound=networks.STATE_BOUND,
        gate_bias=flows.OPEN_GATE,
    )


def named_weights(model):
    """Returns the names of a reference mapped to the variables of a model.

    Numbers are the names where no peer trains the posterior.
    """
    generative, recognition = model.state_space_model, model.recognition_model
    posterior = recognition.posterior
    if not trained_by_peers(posterior):
        return {str(number): weight for number, weight in enumerate(model.trainable_variables)}
    layers = {
        **numbered("transition", generative.transition.network),
        **numbered("emission", generative.emission.network),
        **numbered("encoder", recognition.encoder.network),
        **numbered("initial", recognition.initial_posterior.network),
    }
    if hasattr(posterior, "network"):
        layers |= numbered("posterior", posterior.network)
    else:
        layers |= {"posterior/inputs": posterior.input_layer}
        layers |= {"posterior/states": posterior.state_layer}
        layers |= numbered("posterior/rest", posterior.rest)
    named = {
        f"{name}/{kind}": getattr(layer, kind)
        for name, layer in layers.items()
        for kind in ("kernel", "bias")
        if getattr(layer, kind) is not None
    }
    named |= {"emission/raw_scale": generative.emission.raw_scale, **flow_weights(posterior)}
    if len(named) != len(model.trainable_variables):
        raise ValueError("The benchmark must hand over every weight of the model.")
    return named


def trained_by_peers(posterior):
    """Returns whether a peer has this posterior, and so its weights, by name."""
    return registry.name_of("posterior", posterior) in processes.POSTERIORS


def numbered(name, network):
    """Returns the layers of an MLP by names that end in their numbers."""
    return {f"{name}/{index}": layer for index, layer in enumerate(network.layers)}


def flow_weights(posterior):
    """Returns the names of the weights of a posterior's flows, if it has any, mapped to variables.

    The MADE of each has a layer that reads z, one that reads the context, and one that returns the
    parameters.
    """
    chain = getattr(posterior, "flow", None) if trained_by_peers(posterior) else None
    return {
        f"flow/{index}/{name}": weight
        for index, flow in enumerate(chain.flows if chain else [])
        for name, weight in zip(MADE, flow.made.trainable_variables, strict=True)
    }


def flow_masks(posterior):
    """Returns what keeps the kernels of a posterior's flows autoregressive, by their names."""
    return {
        name: weight.constraint(tf.ones_like(weight)).numpy()
        for name, weight in flow_weights(posterior).items()
        if weight.constraint is not None
    }
