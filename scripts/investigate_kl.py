"""Shows why the poster's "KL" turns negative: a closed form, exact evidence, independent draws."""

import dataclasses
import pathlib

from tfp_dvbf import registry
from tfp_dvbf.experiments import command_line, histories, options, protocols, recipe, run_folder
from tfp_dvbf.experiments.command_line import option

OBSERVATION_DIM, CONTROL_DIM = 2, 1
LINEAR = {"transition": "locally_linear", "state_dim": 2}
LINEAR_LAYERS = {"num_bases": 1, "decoder_units": ()}
SIZES = {"encoder_units": (32,), "posterior_units": (32,), "flow_units": (16,)}
DECAY = 0.9
NUM_STEPS = 20
NUM_TRAIN, NUM_TEST = 512, 128
LEARNING_RATE = 1e-2
AS_STATED = "chain_iaf, independent draws"


@dataclasses.dataclass
class Args:
    """Runs the experiments of docs/negative_kl.md and draws its figures."""

    output: str = option("runs/negative_kl", "folder to make")
    epochs: int = option(100, "epochs of the linear models")
    pendulum: str = option("runs/compare", "output of compare.py; made if it does not exist")
    data: str = option("data/pendulum", "data of compare.py")


def main(args):
    if args.epochs < 1:
        raise ValueError(f"`epochs` must be at least 1; got {args.epochs}.")
    output = command_line.check_output(args.output)
    histories = pendulum_histories(args)
    from tfp_dvbf.experiments import plots, startup

    startup.start(seed=1)
    output.mkdir(parents=True)
    plots.gaussian_chain(output / "closed_form.png", closed_form())
    linear = linear_experiment(args.epochs)
    run_folder.write_json(output / "linear.json", linear)
    plots.bounds_and_evidence(
        output / "evidence.png", {name: linear[name] for name in registry.names("posterior")}
    )
    chains = {name: linear[name]["kl"] for name in ["chain_iaf", AS_STATED]}
    plots.kl_curves(output / "independent_draws.png", chains)
    plots.kl_curves(output / "pendulum.png", {name: h["kl"] for name, h in histories.items()})
    results = summary(linear, histories)
    run_folder.write_json(output / "summary.json", results)
    report(results)
    print(f"figures and their numbers: {output}")


def pendulum_histories(args):
    """Returns the training history of the first seed of each posterior, training if need be."""
    folder = pathlib.Path(args.pendulum)
    paths = {name: folder / f"{name}-seed1" / "history.csv" for name in registry.names("posterior")}
    for name, path in paths.items():
        if not path.exists():
            run = {"data": args.data, "output": str(path.parent), "resume": True}
            run["noise_floor"] = protocols.POSTER_NOISE_FLOOR
            recipe.run(protocols.run_options(name, protocols.COMPARISON, **run))
    return {name: histories.read(path) for name, path in paths.items()}


def closed_form():
    """Returns curves of the poster's t-th term in one dimension by the prior's variance.

    z[0] ~ N(0, v0), z[t] = a z[t-1], p(z[t] | z[t-1]) = N(a z[t-1], v): the expectation of
    ln q[t](z[t]) - ln p(z[t] | z[t-1]) is 1/2 ln(v / (e a^2t v0)).
    """
    import numpy as np

    variance = np.geomspace(1e-4, 1e2, 100)
    terms = {
        f"t = {t}, a = {DECAY}": 0.5 * np.log(variance / (np.e * DECAY ** (2 * t)))
        for t in [1, 5, 10]
    }
    return variance, terms


def linear_experiment(epochs):
    """Trains each posterior on linear-Gaussian data; returns its curves on the test set.

    Returns:
      Names mapped to `objective`, `evidence` (the exact ln p(x) of the model's own current
      parameters), `generating` (that of the model the data come from) and `kl`, nats a sequence,
      a number after each epoch.
    """
    import tfp_dvbf
    from tfp_dvbf.inference import kalman

    truth = generating_model()
    train, test = (
        draw_sequences(truth, count, seed) for count, seed in [(NUM_TRAIN, 1), (NUM_TEST, 2)]
    )
    generating = mean(kalman.log_prob(truth.state_space_model, test.observations, test.controls))
    curves = {}
    for name in [*registry.names("posterior"), AS_STATED]:
        model = make_model(name)
        model.adapt(tfp_dvbf.as_dataset(train))
        curves[name] = {**train_linear(model, train, test, epochs), "generating": generating}
        print(f"{name}: trained", flush=True)
    return curves


def make_model(name):
    """Returns the linear model of one posterior, or of the poster's posterior as it is stated."""
    if name == AS_STATED:
        return linear_model("chain_iaf", independent_draws, **SIZES)
    return linear_model(name, **SIZES)


def linear_model(posterior, changed=lambda part: part, **sizes):
    """Returns a linear `DVBF`; `changed` makes its posterior from the one of that name."""
    import tf_keras

    import tfp_dvbf

    model = options.ModelOptions(posterior=posterior, **LINEAR)
    arguments = options.model_arguments(model, **LINEAR_LAYERS, **sizes)
    part = tf_keras.saving.deserialize_keras_object(arguments.pop("posterior"))
    return tfp_dvbf.DVBF(OBSERVATION_DIM, CONTROL_DIM, posterior=changed(part), seed=1, **arguments)


def generating_model():
    """Returns the linear model that the data come from: a damped rotation with one control."""
    import numpy as np

    model = linear_model("gaussian")
    a = 0.95 * np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    model.state_space_model.transition.state_change.assign([a - np.eye(2)])
    model.state_space_model.transition.control_matrix.assign([[[0.0], [0.5]]])
    kernel, _ = model.state_space_model.emission.network.layers[-1].weights
    kernel.assign([[1.0, -0.2], [0.3, 0.8]])
    return model


def draw_sequences(model, count, seed):
    """Draws sequences from a model under standard normal controls."""
    import numpy as np

    import tfp_dvbf

    controls = np.random.default_rng(seed).normal(size=[count, NUM_STEPS - 1, 1])
    observations = model.generate(controls, seed=seed).observations[0]
    return tfp_dvbf.Sequences(observations, controls)


def train_linear(model, train, test, epochs):
    """Trains one model; returns `objective`, `evidence` and `kl` on the test set by epoch."""
    import tf_keras

    import tfp_dvbf

    dataset = tfp_dvbf.as_dataset(train, batch_size=64, seed=1)
    rate = tf_keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * len(dataset))
    model.compile(optimizer=tf_keras.optimizers.Adam(rate, clipnorm=10.0))
    curves = {"objective": [], "evidence": [], "kl": []}
    record = tf_keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: evaluate(model, test, curves)
    )
    model.fit(dataset, epochs=epochs, verbose=0, callbacks=[record])
    return curves


def evaluate(model, test, curves, num_samples=32):
    """Appends to each of `curves` its value under the model's current parameters."""
    import numpy as np

    from tfp_dvbf.inference import kalman

    x, u = test.observations, test.controls
    nll, kl = (mean(np.sum(term, axis=2)) for term in model.bound_terms(x, u, num_samples, seed=1))
    curves["objective"].append(-(nll + kl))
    curves["evidence"].append(mean(kalman.log_prob(model.state_space_model, x, u)))
    curves["kl"].append(kl)


def independent_draws(chain):
    """Returns chain_iaf's posterior as the poster states it, from a `ChainIAF`.

    q(z[0:T]) = prod_t q[t](z[t]), the marginals of chain_iaf: z[t] comes from a draw of its own,
    eps[t] carried through t steps, instead of the one draw eps[0] that the poster's code carries
    through all of them.
    """
    import tensorflow as tf

    from tfp_dvbf import posteriors
    from tfp_dvbf.layers import initial_posteriors, networks

    class IndependentDraws(posteriors.ChainIAF):
        def call(self, model, first, inputs, noise, observed=None):
            count, steps, dim = tf.unstack(tf.shape(noise))
            first_noise = tf.reshape(tf.einsum("btd->tbd", noise), [steps * count, 1, dim])
            noise = tf.repeat(first_noise, steps, axis=1)
            inputs = tf.nest.map_structure(lambda tensor: networks.tile_rows(tensor, steps), inputs)
            first = initial_posteriors.first_state(first).tiled(steps)
            sample = super().call(model, first, inputs, noise, observed)
            states = tf.reshape(sample.states, [steps, count, steps, dim])
            log_prob = tf.reshape(sample.log_prob, [steps, count, steps])
            return sample._replace(
                states=tf.einsum("tbtd->btd", states), log_prob=tf.einsum("tbt->bt", log_prob)
            )

    return IndependentDraws.from_config(chain.get_config())


def summary(linear, histories):
    """Returns what the figures show as numbers, nats a sequence; epochs count from 1.

    For the linear models the `smallest_gap` of any epoch between evidence and objective, negative
    where the objective is no bound, and the first epochs at which the objective is above the
    evidence of the model's own parameters and of the data-generating ones.
    """
    import numpy as np

    def first(condition):
        return int(np.argmax(condition)) + 1 if np.any(condition) else None

    def kl(values):
        values = np.asarray(values)
        return {
            "lowest_kl": float(values.min()),
            "last_kl": float(values[-1]),
            "first_negative_kl": first(values < 0),
        }

    rows = {}
    for name, curves in linear.items():
        objective, evidence = (np.array(curves[key]) for key in ["objective", "evidence"])
        rows[name] = {
            "objective": objective[-1],
            "evidence": evidence[-1],
            "generating": curves["generating"],
            "smallest_gap": float((evidence - objective).min()),
            "first_above_own": first(objective > evidence),
            "first_above_generating": first(objective > curves["generating"]),
            **kl(curves["kl"]),
        }
    return {"linear": rows, "pendulum": {name: kl(h["kl"]) for name, h in histories.items()}}


def report(results):
    """Prints the numbers of `summary` as tables."""
    from tfp_dvbf.experiments import tables

    for title, rows in results.items():
        print(f"\n{title}")
        print(tables.markdown([{"model": name, **row} for name, row in rows.items()]))


def mean(values):
    import numpy as np

    return float(np.mean(values))


if __name__ == "__main__":
    command_line.run(main, Args)
