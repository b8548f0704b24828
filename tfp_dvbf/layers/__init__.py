"""The parts of a state-space model and the networks behind them: each returns one density."""

from tfp_dvbf.layers.convolutions import ConvolutionalEncoder, ConvolutionalInitialPosterior
from tfp_dvbf.layers.discrete_emissions import (
    BernoulliEmission,
    CategoricalEmission,
    PoissonEmission,
)
from tfp_dvbf.layers.emissions import (
    Emission,
    GaussianEmission,
    HeteroscedasticEmission,
    StudentTEmission,
)
from tfp_dvbf.layers.encoders import Encoder, FilterEncoder, SmootherEncoder
from tfp_dvbf.layers.flows import (
    FlowChain,
    GatedInverseAutoregressiveFlow,
    InverseAutoregressiveFlow,
    SplineInverseAutoregressiveFlow,
)
from tfp_dvbf.layers.image_emissions import ImageBernoulli, ImageGaussian
from tfp_dvbf.layers.initial_posteriors import (
    FirstState,
    GaussianInitialPosterior,
    IAFInitialPosterior,
    InitialPosterior,
)
from tfp_dvbf.layers.networks import MLP
from tfp_dvbf.layers.part import Part, Spec
from tfp_dvbf.layers.standardization import Standardization
from tfp_dvbf.layers.state_space_model import StateSpaceModel, Trajectory
from tfp_dvbf.layers.transitions import (
    LocallyLinearTransition,
    MLPTransition,
    RotationTransition,
    Transition,
)

__all__ = [
    "MLP",
    "BernoulliEmission",
    "CategoricalEmission",
    "ConvolutionalEncoder",
    "ConvolutionalInitialPosterior",
    "Emission",
    "Encoder",
    "FilterEncoder",
    "FirstState",
    "FlowChain",
    "GatedInverseAutoregressiveFlow",
    "GaussianEmission",
    "GaussianInitialPosterior",
    "HeteroscedasticEmission",
    "IAFInitialPosterior",
    "ImageBernoulli",
    "ImageGaussian",
    "InitialPosterior",
    "InverseAutoregressiveFlow",
    "LocallyLinearTransition",
    "MLPTransition",
    "Part",
    "PoissonEmission",
    "RotationTransition",
    "Spec",
    "SmootherEncoder",
    "SplineInverseAutoregressiveFlow",
    "Standardization",
    "StateSpaceModel",
    "StudentTEmission",
    "Trajectory",
    "Transition",
]
