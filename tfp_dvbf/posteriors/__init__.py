"""Posteriors q(z[0:T] | x[0:T], u[0:T-1]) over latent trajectories.

Each is called with q(z[0] | x[0:k]), inputs i[t] = (h[t], u[t-1]) for t = 1 .. T-1, the encoder's
features beside the controls, and noise eps[0:T], and returns one `PosteriorSample`.
"""

from tfp_dvbf.posteriors.chain_iaf import ChainIAFPosterior
from tfp_dvbf.posteriors.sample import PosteriorSample
from tfp_dvbf.posteriors.sequential import GaussianPosterior, IAFPosterior
from tfp_dvbf.posteriors.trajectory_iaf import TrajectoryIAFPosterior

__all__ = [
    "POSTERIORS",
    "REFUSED",
    "ChainIAFPosterior",
    "GaussianPosterior",
    "IAFPosterior",
    "PosteriorSample",
    "TrajectoryIAFPosterior",
    "check_num_flows",
    "check_objective",
    "make_posterior",
]

POSTERIORS = ("gaussian", "iaf", "trajectory_iaf", "chain_iaf")

_NO_DENSITY = "its states are one draw carried through time, so the trajectory has no density"
REFUSED = {
    ("chain_iaf", "iwae"): _NO_DENSITY,
    ("chain_iaf", "fivo"): _NO_DENSITY,
    ("trajectory_iaf", "fivo"): "its states depend on all past noise, so that no particle can go "
    "on from a resampled z[t-1]",
}


def make_posterior(
    name,
    state_dim,
    context_dim,
    *,
    num_flows=1,
    hidden_units=(256, 256),
    flow_units=(64,),
    receptive_field=64,
    activation="relu",
):
    """Returns the posterior called `name`, one of `POSTERIORS`."""
    common = {"activation": activation, "name": "posterior"}
    if name == "gaussian":
        return GaussianPosterior(state_dim, hidden_units, **common)
    if name == "iaf":
        return IAFPosterior(state_dim, num_flows, hidden_units, flow_units, **common)
    if name == "trajectory_iaf":
        return TrajectoryIAFPosterior(
            state_dim, num_flows, hidden_units[0], receptive_field, flow_units, **common
        )
    return ChainIAFPosterior(state_dim, context_dim, num_flows, hidden_units, **common)


def check_num_flows(name, num_flows):
    """Raises ValueError if the posterior called `name` cannot have so many flows."""
    fewest = 1 if name == "chain_iaf" else 0
    if not isinstance(num_flows, int) or num_flows < fewest:
        raise ValueError(
            f"`num_flows` must be an integer of at least {fewest} for {name}; got {num_flows}."
        )


def check_objective(name, objective):
    """Raises ValueError, with the reason, if the posterior `name` cannot serve `objective`."""
    if (name, objective) in REFUSED:
        reason = REFUSED[name, objective]
        raise ValueError(f"`objective` {objective} is not for {name}: {reason}.")
