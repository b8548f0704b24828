"""Packaging of tfp_dvbf."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "tfp_dvbf/__init__.py").read_text())[1]

# tensorflow and tf-keras move in lockstep: AutoregressiveNetwork is a tf_keras layer, and a
# tf_keras of another minor version fails at import or, worse, tracks weights differently.
REQUIREMENTS = [
    "tensorflow>=2.21,<2.22",
    "tf-keras>=2.21,<2.22",
    "tensorflow-probability>=0.25,<0.26",
    "keras-tuner>=1.4.8,<1.5",
    "gymnasium[classic-control]>=1.0",
    "numpy",
    "matplotlib",
    "scipy",
    "setuptools",  # TFP 0.25 imports distutils, which Python 3.12 dropped
]

setuptools.setup(
    name="tfp_dvbf",
    version=VERSION,
    description="Probabilistic latent dynamical systems for TensorFlow Probability and Keras.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=["tfp_dvbf", "tfp_dvbf.*"]),
    install_requires=REQUIREMENTS,
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "tensorboard": ["tensorboard"],
        "bayesian": ["scikit-learn"],
        "benchmark": ["jax>=0.10", "optax>=0.2.8", "torch>=2.13"],
        "benchmarks": ["nonlinear_benchmarks"],
        "test": ["pytest", "ruff", "scikit-learn", "scoringrules", "tensorboard"],
    },
)
