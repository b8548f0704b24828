"""Posteriors q(z[0:T] | x[0:T], u[0:T-1]) over latent trajectories.

Each is called with q(z[0] | x[0:k]), the `PosteriorInputs` of t = 1 .. T-1 and noise eps[0:T], and
returns one `PosteriorSample`.
"""

from tfp_dvbf.posteriors.base import PosteriorInputs, PosteriorSample
from tfp_dvbf.posteriors.chain_iaf import ChainIAFPosterior
from tfp_dvbf.posteriors.gaussian import GaussianPosterior
from tfp_dvbf.posteriors.iaf import IAFPosterior
from tfp_dvbf.posteriors.trajectory_iaf import TrajectoryIAFPosterior

__all__ = [
    "ChainIAFPosterior",
    "GaussianPosterior",
    "IAFPosterior",
    "PosteriorInputs",
    "PosteriorSample",
    "TrajectoryIAFPosterior",
    "make_posterior",
]


def make_posterior(config, transition, emission):
    """Returns the posterior that a `DVBF` of this `config` and with these layers has."""
    name, state_dim = config["posterior"], config["state_dim"]
    options = {"activation": config["activation"], "name": "posterior"}
    if config["posterior_units"] is not None:
        options["hidden_units"] = config["posterior_units"]
    if name == "gaussian":
        return GaussianPosterior(transition, **options)
    options["num_flows"] = config["num_flows"]
    if name == "chain_iaf":
        context_dim = config["encoder_units"][-1] + config["control_dim"]
        return ChainIAFPosterior(state_dim, context_dim, **options)
    options["flow_units"] = config["flow_units"]
    if name == "iaf":
        return IAFPosterior(transition, emission, **options)
    return TrajectoryIAFPosterior(state_dim, receptive_field=config["receptive_field"], **options)
