"""Posteriors q(z[0:T] | x[0:T], u[0:T-1]) over latent trajectories, each defined by one step."""

from tfp_dvbf.posteriors.base import Posterior, PosteriorInputs, PosteriorSample, Step
from tfp_dvbf.posteriors.chain_iaf import ChainIAF
from tfp_dvbf.posteriors.gaussian import Gaussian
from tfp_dvbf.posteriors.innovation import IAF, Innovation
from tfp_dvbf.posteriors.recognition import RecognitionModel
from tfp_dvbf.posteriors.trajectory_iaf import TrajectoryIAF

__all__ = [
    "IAF",
    "ChainIAF",
    "Gaussian",
    "Innovation",
    "Posterior",
    "PosteriorInputs",
    "PosteriorSample",
    "RecognitionModel",
    "Step",
    "TrajectoryIAF",
]
