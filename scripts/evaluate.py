"""Evaluates a trained model on a data set, beside the baselines that need no model."""

import dataclasses
import os

from tfp_dvbf import arguments, runs
from tfp_dvbf.arguments import option


@dataclasses.dataclass
class Args:
    """Evaluates the model of a run folder on an .npz file."""

    model: str = option("runs/gaussian", "run folder of train.py, or a .keras file")
    data: str = option("data/pendulum/test.npz", ".npz file")
    json: str | None = option(None, "file to write the metrics to; it must not exist yet")
    num_samples: int = option(10, "generated trajectories a sequence")
    seed: int = option(1, "seed of the draws")
    batch_size: int = option(128, "sequences evaluated at a time")


def main(args):
    from tfp_dvbf import data, evaluation, runtime

    if not os.path.exists(args.data):
        raise ValueError(f"`--data` must be an .npz file; {args.data} does not exist.")
    if args.json and os.path.exists(args.json):
        raise ValueError(f"`--json` must not exist yet; got {args.json}.")
    sequences = data.load(args.data)
    runtime.start(args.seed)
    model = runs.load_model(args.model)
    metrics = {
        "model": model.config["posterior"],
        **evaluation.evaluate(model, sequences, args.num_samples, args.seed, args.batch_size),
    }
    print(evaluation.format_table([metrics, *evaluation.baselines(sequences)]))
    if args.json:
        runs.write_json(args.json, metrics)


if __name__ == "__main__":
    arguments.run(main, Args)
