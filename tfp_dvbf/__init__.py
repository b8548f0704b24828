"""tfp_dvbf: probabilistic latent dynamical systems for TensorFlow Probability and Keras."""

import importlib

__version__ = "0.3.0"

_MODULES = {
    "BestWeights": "best_weights",
    "DVBF": "dvbf",
    "Ensemble": "ensemble",
    "KLAnnealing": "callbacks",
    "Log": "data.logs",
    "Sequences": "data",
    "Shards": "data.shards",
    "StateSpaceModel": "layers.state_space_model",
    "TerminateOnNonFinite": "callbacks",
    "Trajectory": "layers.state_space_model",
    "as_dataset": "data.batching",
    "check_alignment": "data.alignment",
    "collect": "data.environments",
    "evaluate": "evaluation",
    "export": "serving.saved_model",
    "load": "data",
    "load_exported": "serving.saved_model",
    "save": "data",
}
_SUBPACKAGES = ("data", "evaluation", "experiments", "inference", "layers", "posteriors", "serving")

__all__ = list(_MODULES)


def __getattr__(name):
    """Imports public names on first use (PEP 562): `import tfp_dvbf` loads no TensorFlow."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__, *_SUBPACKAGES])
