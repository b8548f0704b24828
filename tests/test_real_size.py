"""Every public method and exported signature at the sizes that users have, three times over.

Some faults need the size: Grappler rewrites sums of large tensors in a loop into an operation that
fails when the loop runs again, in the same call or in the next of the same sizes.
"""

import subprocess
import sys

import models
import numpy as np
import pytest
import tensorflow as tf

from tfp_dvbf.serving import saved_model

SEQUENCES, DRAWS, STEPS = 500, 10, 50
# Each posterior once, the transitions in turn.
PAIRS = [
    ("innovation", "mlp"),
    ("gaussian", "locally_linear"),
    ("iaf", "locally_linear"),
    ("trajectory_iaf", "mlp"),
    ("chain_iaf", "mlp"),
    ("innovation", "rotation"),
]
MAX_MEMORY = 3 * 2**30


def arrays(sequences=SEQUENCES, steps=STEPS):
    rng = np.random.default_rng(0)
    x = rng.normal(size=[sequences, steps, 3]).astype(np.float32)
    u = rng.normal(size=[sequences, steps - 1, 1]).astype(np.float32)
    mask = rng.random([sequences, steps]) < 0.9
    mask[:, 0] = True
    return x, u, mask


def make(posterior, transition):
    return models.small_model(posterior, transition=transition, num_bases=4, state_dim=4)


def methods(model):
    """Returns calls of every public method that takes whole arrays, by name."""
    x, u, mask = arrays()
    draws = {"num_samples": DRAWS, "seed": 1}
    calls = {
        "sample_posterior": lambda: model.sample_posterior(x, u, **draws),
        "reconstruct": lambda: model.reconstruct(x, u),
        "generate": lambda: model.generate(u, x[:, :1], **draws),
        "generate_from_state": lambda: model.generate(u, None, np.zeros([500, 4]), **draws),
        "forecast": lambda: model.forecast(x[:, :5], u, **draws),
        "bound_terms": lambda: model.bound_terms(x, u, **draws),
        "elbo": lambda: model.log_prob_bound(x, u, **draws, objective="elbo"),
    }
    if model.recognition_model.posterior.has_density:
        calls |= {
            "impute": lambda: model.impute(x, u, mask, **draws),
            "iwae": lambda: model.log_prob_bound(x, u, **draws, mask=mask),
            "fivo": lambda: model.log_prob_bound(x, u, **draws, objective="fivo"),
            "filter": lambda: model.filter(x, u, **draws, mask=mask),
            "filter_step": lambda: model.filter_step(
                model.filter_init(x[:, :1], DRAWS, 1), x[:, 1], u[:, 0], seed=1
            ),
        }
    return calls


def same(results):
    """Asserts that calls with one seed gave the same finite values."""
    first, *others = (tf.nest.flatten(result) for result in results)
    for tensors in zip(first, *others):
        assert np.all(np.isfinite(tensors[0]))
        for other in tensors[1:]:
            np.testing.assert_array_equal(tensors[0], other)


@pytest.mark.parametrize(
    "posterior, transition",
    PAIRS[:1] + models.marked(PAIRS[1:2], PAIRS[2:]),
)
def test_every_method_three_times(posterior, transition):
    names = list(methods(make(posterior, transition)))
    for name in names:
        call = methods(make(posterior, transition))[name]
        same([call() for _ in range(3)])


@pytest.mark.parametrize("posterior, transition", models.marked(PAIRS[:1], PAIRS[3:4]))
def test_every_signature_three_times(posterior, transition, tmp_path):
    saved_model.export(make(posterior, transition), tmp_path / "model")
    x, u, mask = map(tf.constant, arrays())
    seed, count = {"seed": tf.constant(1)}, {"num_samples": tf.constant(DRAWS)}
    whole = {"observations": x, "controls": u}
    observed = tf.cast(mask, tf.float32)
    first = {"initial_observations": x[:, :1]}
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    belief = signatures["filter_init"](**first, num_particles=tf.constant(DRAWS), **seed)
    belief = {name: tensor for name, tensor in belief.items() if name != "log_evidence"}
    step = {"observations": x[:, 1], "controls": u[:, 0], "observed": observed[:, 1]}
    arguments = {
        "filter_init": {**first, "num_particles": tf.constant(DRAWS), **seed},
        "filter_step": {**belief, **step, **seed},
        "sample_posterior": {**whole, "mask": observed, **seed},
        "forecast": {"observations": x[:, :5], "controls": u, "mask": observed[:, :5]},
        "generate": {**first, "controls": u, "mask": observed[:, :1]},
        "log_prob_bound": {**whole, "mask": observed},
    }
    assert set(arguments) == set(signatures)
    for name, given in arguments.items():
        given = {**given, **count, **seed} if "seed" not in given else given
        same([signatures[name](**given) for _ in range(3)])


MEMORY = """
import resource
import sys
import numpy as np
import test_real_size

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

model = test_real_size.make(sys.argv[1], sys.argv[2])
x, u, _ = test_real_size.arrays()
before = peak()
for _ in range(3):
    drawn = model.generate(u, x[:, :1], num_samples=100, seed=1)
assert drawn.states.shape == (100, 500, 50, 4)
assert np.isfinite(drawn.observations).all()
print(peak() - before)
"""


@pytest.mark.parametrize("posterior, transition", models.marked(PAIRS[:1], PAIRS[1:2]))
def test_fifty_thousand_trajectories_fit_into_memory(posterior, transition):
    """In a process of its own: the peak of a process never falls."""
    command = [sys.executable, "-c", MEMORY, posterior, transition]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, env=models.environment()
    )
    assert int(ran.stdout.split()[-1]) < MAX_MEMORY


@pytest.mark.parametrize("posterior, transition", models.marked(PAIRS[:1], PAIRS[1:4]))
def test_filtering_thousands_of_steps(posterior, transition):
    model = make(posterior, transition)
    x, u, _ = arrays(4, 5000)
    same([model.filter(x, u, num_samples=16, seed=1) for _ in range(3)])
