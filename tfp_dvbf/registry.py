"""What a `DVBF` can be made of, and which combinations there are; imports no TensorFlow."""

POSTERIORS = ("gaussian", "iaf", "trajectory_iaf", "chain_iaf")
TRANSITIONS = ("mlp", "locally_linear")
EMISSIONS = ("gaussian", "bernoulli")
ENCODERS = ("filter", "smoother")
OBJECTIVES = ("elbo", "iwae")
BOUNDS = (*OBJECTIVES, "fivo")
TUNERS = ("random", "hyperband", "bayesian")
TUNED = (  # Options of train.py that a search may set.
    *["posterior", "num_flows", "state_dim", "hidden_units", "learning_rate"],
    *["kl_annealing_epochs", "batch_size"],
)
TUNING_OBJECTIVES = ("val_neg_elbo", "val_mad_sampled")

# What arrays and, in a graph, tensors are told alike.
GAPS = "`mask` may only shorten sequences for chain_iaf, whose states all come from the first frame"
NOT_BINARY = "`observations` must be 0 or 1 for the bernoulli emission."

_NO_DENSITY = "its states are one draw carried through time, so the trajectory has no density"
REFUSED = {
    ("chain_iaf", "iwae"): _NO_DENSITY,
    ("chain_iaf", "fivo"): _NO_DENSITY,
}

_CHOICES = {
    "posterior": POSTERIORS,
    "transition": TRANSITIONS,
    "emission": EMISSIONS,
    "encoder": ENCODERS,
    "objective": OBJECTIVES,
}
_POSITIVE = (
    *["observation_dim", "control_dim", "state_dim", "num_bases", "initial_frames"],
    *["num_samples", "receptive_field"],
)


def bounds(posterior):
    """Returns the names of the bounds that can be estimated for a posterior."""
    return tuple(bound for bound in BOUNDS if (posterior, bound) not in REFUSED)


def check_bound(posterior, objective, choices=BOUNDS):
    """Raises ValueError, with the reason, if `objective` is unknown or not for the posterior."""
    _check_choice("objective", objective, choices)
    if (posterior, objective) in REFUSED:
        reason = REFUSED[posterior, objective]
        raise ValueError(f"`objective` {objective} is not for {posterior}: {reason}.")


def check_mask(posterior, mask):
    """Raises ValueError if `mask` [batch, time], or None, has gaps and the posterior cannot."""
    if posterior != "chain_iaf" or mask is None:
        return
    gaps = (~mask[:, :-1] & mask[:, 1:]).any(axis=1).nonzero()[0]
    if len(gaps):
        raise ValueError(f"{GAPS}; sequence {gaps[0]} has a gap.")


def check_pixels(emission, observations):
    """Raises ValueError unless the emission can make `observations`, an array."""
    if emission == "bernoulli" and ((observations != 0) & (observations != 1)).any():
        raise ValueError(NOT_BINARY)


def check_model(config):
    """Raises ValueError if the arguments of a `DVBF`, or some of them, are out of their range."""
    for name in [name for name in _POSITIVE if name in config]:
        if not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"`{name}` must be a positive integer; got {config[name]}.")
    for name in [name for name in config if name.endswith("_units")]:
        units = config[name]
        if name == "posterior_units" and units is None:  # The posterior takes its own default.
            continue
        sizes = isinstance(units, (list, tuple))
        if not sizes or not all(isinstance(size, int) and size > 0 for size in units):
            raise ValueError(f"`{name}` must be positive integers; got {units}.")
        needed = ["encoder_units", "flow_units"]
        if config.get("posterior") == "trajectory_iaf":
            needed.append("posterior_units")
        if name in needed and not units:
            raise ValueError(f"`{name}` must have at least one layer; got ().")
    for name in [name for name in _CHOICES if name in config]:
        _check_choice(name, config[name], _CHOICES[name])
    posterior, num_flows = config["posterior"], config["num_flows"]
    fewest = 1 if posterior == "chain_iaf" else 0
    if not isinstance(num_flows, int) or num_flows < fewest:
        raise ValueError(
            f"`num_flows` must be an integer of at least {fewest} for {posterior}; got {num_flows}."
        )
    check_bound(posterior, config["objective"], OBJECTIVES)


def _check_choice(name, value, choices):
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}.")
