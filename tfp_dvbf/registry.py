"""The names of parts, metrics, objectives, bounds and signatures, and how a name becomes a part.

This module imports no TensorFlow until a part is made, so that `--help` can list the names.
"""

import importlib

from tfp_dvbf import errors

# Each line maps a name to the module and the class or function behind it.
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
        "rotation": "tfp_dvbf.layers.transitions:RotationTransition",
    },
    "emission": {
        "gaussian": "tfp_dvbf.layers.emissions:GaussianEmission",
        "student_t": "tfp_dvbf.layers.emissions:StudentTEmission",
        "heteroscedastic": "tfp_dvbf.layers.emissions:HeteroscedasticEmission",
        "bernoulli": "tfp_dvbf.layers.discrete_emissions:BernoulliEmission",
        "poisson": "tfp_dvbf.layers.discrete_emissions:PoissonEmission",
        "categorical": "tfp_dvbf.layers.discrete_emissions:CategoricalEmission",
        "image_gaussian": "tfp_dvbf.layers.image_emissions:ImageGaussian",
        "image_bernoulli": "tfp_dvbf.layers.image_emissions:ImageBernoulli",
    },
    "encoder": {
        "filter": "tfp_dvbf.layers.encoders:FilterEncoder",
        "smoother": "tfp_dvbf.layers.encoders:SmootherEncoder",
        "convolutional": "tfp_dvbf.layers.convolutions:ConvolutionalEncoder",
    },
    "initial_posterior": {
        "gaussian": "tfp_dvbf.layers.initial_posteriors:GaussianInitialPosterior",
        "iaf": "tfp_dvbf.layers.initial_posteriors:IAFInitialPosterior",
        "convolutional": "tfp_dvbf.layers.convolutions:ConvolutionalInitialPosterior",
    },
}
BASES = {
    "posterior": "tfp_dvbf.posteriors.base:Posterior",
    "transition": "tfp_dvbf.layers.transitions:Transition",
    "emission": "tfp_dvbf.layers.emissions:Emission",
    "encoder": "tfp_dvbf.layers.encoders:Encoder",
    "initial_posterior": "tfp_dvbf.layers.initial_posteriors:InitialPosterior",
}
# What a part says that it can do, True or an `errors.No` with the reason.
ANSWERS = {"posterior": ("has_density", "takes_gaps", "steps"), "encoder": ("steps",)}
UNITS = ("standardised", "user")
# Scores of the draws of a free run, in addition to those of `evaluation.measures`.
METRICS = {
    "interval_score_90": "tfp_dvbf.evaluation.interval_score:interval_score_90",
}
# What arguments of 0.2 have become.
MOVED = {
    "observation_dim": "`observation_shape`",
    "num_flows": '`posterior=posteriors.IAF(num_flows=...)`, or "innovation" without flows',
    "flow_units": "`posterior=posteriors.IAF(flow_units=...)`",
    "posterior_units": "a setting of the posterior, `hidden_units`",
    "receptive_field": "`posterior=posteriors.TrajectoryIAF(receptive_field=...)`",
    "num_bases": "`transition=layers.LocallyLinearTransition(num_bases=...)`",
    "transition_units": "a setting of the transition, `hidden_units`",
    "decoder_units": "a setting of the emission, `hidden_units`",
    "encoder_units": "a setting of the encoder, `units`",
    "initial_frames": "`initial_posterior=layers.GaussianInitialPosterior(num_steps=...)`",
    "activation": "a setting of each part",
}
OBJECTIVES = ("elbo", "iwae")  # Those that `fit` can train.
BOUNDS = (*OBJECTIVES, "fivo")  # Those that `log_prob_bound` can estimate.
# Each line maps a signature of an exported model to its arguments.
SIGNATURES = {
    "filter_init": ("initial_observations", "num_particles", "seed"),
    "filter_step": ("observations", "controls", "observed", "seed"),  # Besides the belief.
    "sample_posterior": ("observations", "controls", "mask", "seed"),
    "forecast": ("observations", "controls", "mask", "num_samples", "seed"),
    "generate": ("initial_observations", "controls", "mask", "num_samples", "seed"),
    "log_prob_bound": ("observations", "controls", "mask", "num_samples", "seed"),
}


def check_arguments(arguments, known):
    """Raises ValueError, naming what to write instead, if an argument is one of 0.2 or unknown."""
    for name in arguments:
        if name in MOVED:
            raise ValueError(f"`{name}` must be left out; since 0.3 it is {MOVED[name]}.")
        errors.check_choice("argument", name, known)


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
      identifier: A name in `PARTS[kind]`, or that of a registered class; a config that
        `tf_keras.saving.serialize_keras_object` made of a registered class; or a part that no model
        owns yet.

    Raises:
      ValueError: If it is none of these.
    """
    if isinstance(identifier, str):
        identifier = class_of(kind, identifier)(name=kind)
    elif isinstance(identifier, dict):
        identifier = _deserialize(kind, identifier)
    base = _load(BASES[kind])
    if not isinstance(identifier, base):
        raise ValueError(
            f"`{kind}` must be a name ({', '.join(names(kind))}), a config or an object of class "
            f"{base.__name__}; got {_described(identifier)}."
        )
    _check_part(kind, identifier)
    return identifier


def resolve_all(**given):
    """Returns the parts that names, configs or objects of each kind stand for, by kind.

    All come before a model builds the first: one that is refused leaves the others as they were.
    """
    return {kind: resolve(kind, identifier) for kind, identifier in given.items()}


def _check_part(kind, part):
    """Raises ValueError unless a part is new and says what its base class asks it to say."""
    if not hasattr(part, "built"):
        raise ValueError(f"The constructor of the {kind} must call `super().__init__(**kwargs)`.")
    if part.built:
        raise ValueError(f"`{kind}` must belong to no other model; make a new part for each model.")
    for name in ANSWERS.get(kind, ()):
        answer = getattr(part, name)
        if answer is not True and not isinstance(answer, errors.No):
            raise ValueError(
                f"`{name}` of the {kind} must be True or `errors.No(reason)`; got {answer!r}."
            )
    if hasattr(part, "units") and kind in ("transition", "emission"):
        errors.check_choice("units", part.units, UNITS)


def check_registered(kind, part):
    """Raises ValueError unless the class of a part is registered, so that it can be loaded."""
    import tf_keras

    name = tf_keras.saving.get_registered_name(type(part))
    if tf_keras.saving.get_registered_object(name) is not type(part):
        raise ValueError(
            f"`{kind}` must be of a registered class to be saved: decorate {type(part).__name__} "
            "with `tf_keras.utils.register_keras_serializable`."
        )


def metrics():
    """Returns the functions of `METRICS` by name."""
    return {name: _load(path) for name, path in METRICS.items()}


def class_of(kind, name):
    """Returns the class of the part called `name`: a packaged one, or a user's registered class.

    Raises:
      ValueError: If there is none of that kind.
    """
    if name in PARTS[kind]:
        return _load(PARTS[kind][name])
    import tf_keras

    registered = tf_keras.saving.get_registered_object(name)
    if registered is None:
        base = _load(BASES[kind])
        own = [
            other
            for other, found in tf_keras.saving.get_custom_objects().items()
            if isinstance(found, type)
            and issubclass(found, base)
            and not other.startswith("tfp_dvbf>")
        ]
        errors.check_choice(kind, name, [*names(kind), *own])
    return registered


def _deserialize(kind, config):
    import tf_keras

    registered = config.get("registered_name")
    if registered is None or tf_keras.saving.get_registered_object(registered) is None:
        raise ValueError(
            f"`{kind}` must be a config of a class registered with "
            "`tf_keras.utils.register_keras_serializable` in this process; "
            f"got {registered or config.get('class_name')}."
        )
    try:
        return tf_keras.saving.deserialize_keras_object(config)
    except TypeError as error:  # The class does not know one of the settings.
        raise ValueError(f"`{kind}` cannot be made: {errors.first_line(error)}") from error


def _load(path):
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _described(value):
    """Returns what a value is; a Keras 3 object is told apart, since its names are the same."""
    kind = type(value)
    if kind.__module__.split(".")[0] == "keras":
        return f"a Keras 3 object, {kind.__name__} (this package takes those of tf_keras)"
    return f"{value.__name__}, a class" if isinstance(value, type) else repr(value)
