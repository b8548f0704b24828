"""Collects training, validation and test sequences from a Gymnasium environment."""

import dataclasses
import pathlib

from tfp_dvbf import arguments
from tfp_dvbf.arguments import option


@dataclasses.dataclass
class Args:
    """Collects train.npz, validation.npz and test.npz from a Gymnasium environment."""

    env_id: str = option("Pendulum-v1", "Gymnasium environment with Box observations and actions")
    output: str = option("data/pendulum", "folder to make")
    num_train: int = option(500, "training sequences")
    num_validation: int = option(128, "validation sequences")
    num_test: int = option(128, "test sequences")
    num_steps: int = option(50, "observations in a sequence")
    seed: int = option(1, "seed; each seed and split has initial states and noise of its own")


def main(args):
    from tfp_dvbf import data, environments

    output = pathlib.Path(args.output)
    if output.exists():
        raise ValueError(f"`--output` must not exist yet; got {output}.")
    if args.seed < 0:
        raise ValueError(f"`--seed` must not be negative; got {args.seed}.")
    sizes = {"train": args.num_train, "validation": args.num_validation, "test": args.num_test}
    sets = {
        name: environments.collect(
            args.env_id, size, args.num_steps, seed=len(sizes) * args.seed + index
        )
        for index, (name, size) in enumerate(sizes.items())
    }
    partial = output.with_name(f"{output.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name, sequences in sets.items():
        data.save(partial / f"{name}.npz", sequences)
        print(f"{output / name}.npz: {len(sequences)} sequences of {args.num_steps} steps")
    partial.rename(output)


if __name__ == "__main__":
    arguments.run(main, Args)
