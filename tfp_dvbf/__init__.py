"""tfp_dvbf: probabilistic latent dynamical systems for TensorFlow Probability and Keras."""

import importlib

__version__ = "0.2.0"

_MODULES = {
    "DVBF": "dvbf",
    "KLAnnealing": "callbacks",
    "Sequences": "data",
    "Shards": "data.shards",
    "TerminateOnNonFinite": "callbacks",
    "Trajectory": "inference.rollout",
    "as_dataset": "data.batching",
    "collect": "data.environments",
    "evaluate": "evaluation",
    "export": "serving.saved_model",
    "load": "data",
    "load_exported": "serving.saved_model",
    "save": "data",
}

__all__ = list(_MODULES)


def __getattr__(name):
    """Imports public names on first use (PEP 562): `import tfp_dvbf` loads no TensorFlow."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
