"""What can be asked of a state-space model and a posterior: draws, bounds, filters, exact answers.

All are functions of (model, recognition model, batch) that know nothing of training.
"""

from tfp_dvbf.inference.bounds import Terms
from tfp_dvbf.inference.particle_filter import Filtered
from tfp_dvbf.layers.state_space_model import StateSpaceModel, Trajectory

__all__ = ["Filtered", "StateSpaceModel", "Terms", "Trajectory"]
