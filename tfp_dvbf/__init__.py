"""tfp_dvbf: probabilistic latent dynamical systems for TensorFlow Probability and Keras."""

__version__ = "0.1.0"
