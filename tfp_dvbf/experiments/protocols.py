"""Which models the experiments compare and how long each is trained; imports no TensorFlow."""

from tfp_dvbf import registry
from tfp_dvbf.experiments import options

# The posteriors, and one without its flows, as `innovation` is `iaf` without its own: the ablation.
VARIANTS = {name: {"posterior": name} for name in registry.names("posterior")}
VARIANTS["trajectory_iaf-0"] = {"posterior": "trajectory_iaf", "num_flows": 0}
RECOMMENDED = "innovation"

# The poster trained 1000 epochs, 600 of them with a rising KL weight, in batches of 16, from
# these initial learning rates. `innovation` and `iaf` need no long annealing. The quick protocol
# shows the same in minutes. Neither has a noise floor that is felt, since the poster had none.
PROTOCOLS = {
    "poster": {
        "gaussian": {"epochs": 1000, "kl_annealing_epochs": 600, "learning_rate": 5e-4},
        "chain_iaf": {"epochs": 1000, "kl_annealing_epochs": 600, "learning_rate": 1e-3},
        "innovation": {"epochs": 1000, "kl_annealing_epochs": 100, "learning_rate": 4e-3},
        "iaf": {"epochs": 1000, "kl_annealing_epochs": 100, "learning_rate": 4e-3},
        "trajectory_iaf": {"epochs": 1000, "kl_annealing_epochs": 600, "learning_rate": 1e-3},
    },
    "quick": {
        "gaussian": {"epochs": 200, "kl_annealing_epochs": 10, "learning_rate": 4e-3},
        "chain_iaf": {"epochs": 40, "kl_annealing_epochs": 20, "learning_rate": 1e-3},
        "innovation": {"epochs": 200, "kl_annealing_epochs": 10, "learning_rate": 4e-3},
        "iaf": {"epochs": 200, "kl_annealing_epochs": 10, "learning_rate": 4e-3},
        "trajectory_iaf": {"epochs": 200, "kl_annealing_epochs": 10, "learning_rate": 4e-3},
    },
}
POSTER_NOISE_FLOOR = 1e-4
# All variants are compared at the same number of updates, and with the default noise floor.
COMPARISON = PROTOCOLS["quick"]["gaussian"]
# Short windows come to an error of 0.05 sooner than whole sequences: docs/performance.md.
WINDOWS = {
    "window": 10,
    "epochs": 30,
    "kl_annealing_epochs": 1,
    "learning_rate": 6e-3,
    "beta_2": 0.95,
}
# They take longer to the error of the quick protocol, by its rate. A call makes the 32 steps of an
# epoch of 500 sequences, which takes less time than 32 calls.
DEMO = {
    "window": 10,
    "epochs": 220,
    "kl_annealing_epochs": 10,
    "learning_rate": 4e-3,
    "steps_per_execution": 32,
}

# The errors on the poster, which are those of its own data.
POSTER_ROWS = (
    {"model": "poster, gaussian", "mae_sampled": 0.1536},
    {"model": "poster, chain_iaf", "mae_sampled": 0.1915},
)


def run_options(variant, protocol, **others):
    """Returns the `RunOptions` of one of `VARIANTS`, trained as one of the protocols says."""
    return options.RunOptions(**{**VARIANTS[variant], **protocol, **others})


def protocol_of(name, posterior):
    """Returns the protocol of that name for a posterior, of the recommended one if it has none."""
    protocol = PROTOCOLS[name]
    return protocol[posterior if posterior in protocol else RECOMMENDED]
