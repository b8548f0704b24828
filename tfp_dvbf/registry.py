"""The names of the parts, objectives and bounds that there are, and how a name becomes a part.

This module imports no TensorFlow until a part is made, so that `--help` can list the names.
"""

import importlib

from tfp_dvbf import errors

# Each line maps a name to the module and the class behind it.
PARTS = {
    "posterior": {
        "innovation": "tfp_dvbf.posteriors.innovation:Innovation",
        "gaussian": "tfp_dvbf.posteriors.gaussian:Gaussian",
        "iaf": "tfp_dvbf.posteriors.innovation:IAF",
        "trajectory_iaf": "tfp_dvbf.posteriors.trajectory_iaf:TrajectoryIAF",
        "chain_iaf": "tfp_dvbf.posteriors.chain_iaf:ChainIAF",
    },
    "transition": {
        "mlp": "tfp_dvbf.layers.transitions:MLPTransition",
        "locally_linear": "tfp_dvbf.layers.transitions:LocallyLinearTransition",
    },
    "emission": {
        "gaussian": "tfp_dvbf.layers.emissions:GaussianEmission",
        "bernoulli": "tfp_dvbf.layers.emissions:BernoulliEmission",
    },
    "encoder": {
        "filter": "tfp_dvbf.layers.encoders:FilterEncoder",
        "smoother": "tfp_dvbf.layers.encoders:SmootherEncoder",
    },
    "initial_posterior": {
        "gaussian": "tfp_dvbf.layers.initial_posteriors:GaussianInitialPosterior",
    },
}
BASES = {
    "posterior": "tfp_dvbf.posteriors.base:Posterior",
    "transition": "tfp_dvbf.layers.transitions:Transition",
    "emission": "tfp_dvbf.layers.emissions:Emission",
    "encoder": "tfp_dvbf.layers.encoders:Encoder",
    "initial_posterior": "tfp_dvbf.layers.initial_posteriors:InitialPosterior",
}
OBJECTIVES = ("elbo", "iwae")  # Those that `fit` can train.
BOUNDS = (*OBJECTIVES, "fivo")  # Those that `log_prob_bound` can estimate.


def names(kind):
    """Returns the names of the packaged parts of a kind, the default first."""
    return tuple(PARTS[kind])


def name_of(kind, part):
    """Returns the name of a packaged part, the name of its class for any other."""
    found = f"{type(part).__module__}:{type(part).__name__}"
    return next((name for name, path in PARTS[kind].items() if path == found), type(part).__name__)


def resolve(kind, identifier):
    """Returns the part that a name, a Keras config or an object stands for.

    Args:
      kind: "posterior", "transition", "emission", "encoder" or "initial_posterior".
      identifier: A name in `PARTS[kind]`; a config that `tf_keras.saving.serialize_keras_object`
        made of a registered class; or a part that no model owns yet.

    Raises:
      ValueError: If it is none of these.
    """
    if isinstance(identifier, str):
        errors.check_choice(kind, identifier, names(kind))
        return _load(PARTS[kind][identifier])(name=kind)
    if isinstance(identifier, dict):
        identifier = _deserialize(kind, identifier)
    base = _load(BASES[kind])
    if not isinstance(identifier, base):
        raise ValueError(
            f"`{kind}` must be a name ({', '.join(names(kind))}), a config or a {base.__name__}; "
            f"got {_described(identifier)}."
        )
    if identifier.built:
        raise ValueError(f"`{kind}` must belong to no other model; make a new part for each model.")
    return identifier


def _deserialize(kind, config):
    import tf_keras

    registered = config.get("registered_name")
    if registered is None or tf_keras.saving.get_registered_object(registered) is None:
        raise ValueError(
            f"`{kind}` must be a config of a class registered with "
            "`tf_keras.utils.register_keras_serializable` in this process; "
            f"got {registered or config.get('class_name')}."
        )
    return tf_keras.saving.deserialize_keras_object(config)


def _load(path):
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _described(value):
    """Returns what a value is; a Keras 3 object is told apart, since its names are the same."""
    kind = type(value)
    if kind.__module__.split(".")[0] == "keras":
        return f"a Keras 3 object, {kind.__name__} (this package takes those of tf_keras)"
    return f"{value.__name__}, a class" if isinstance(value, type) else repr(value)
