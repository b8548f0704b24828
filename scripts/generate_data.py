"""Collects training, validation and test sequences from a Gymnasium environment."""

import dataclasses
import shutil

from tfp_dvbf.experiments import command_line
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args:
    """Collects train.npz, validation.npz and test.npz from a Gymnasium environment."""

    env_id: str = option("Pendulum-v1", "Gymnasium environment with Box observations and actions")
    output: str = option("data/pendulum", "folder to make")
    num_train: int = option(500, "training sequences")
    num_validation: int = option(128, "validation sequences")
    num_test: int = option(128, "test sequences")
    num_steps: int = option(50, "observations in a sequence")
    max_episode_steps: int = option(0, "steps of an episode; 0 for the environment's own limit")
    shard_size: int = option(0, "training sequences a file in train/; 0 writes one train.npz")
    observation: str = option("state", "state, or pixels as rendered", ["state", "pixels"])
    size: tuple[int, ...] = option((), "height and width of images in pixels; as rendered without")
    grey: bool = option(False, "images with one channel in place of three")
    seed: int = option(1, "seed; each seed, split and file has initial states and noise of its own")


def main(args):
    from tfp_dvbf import data

    command_line.check_choices(args)
    output = command_line.check_output(args.output)
    least = {"seed": 0, "shard_size": 0, "max_episode_steps": 0, "num_steps": 2}
    least |= dict.fromkeys(["num_train", "num_validation", "num_test"], 1)
    for name, value in least.items():
        given = getattr(args, name)
        if given < value:
            raise ValueError(f"`--{name.replace('_', '-')}` must be at least {value}; got {given}.")
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # What an earlier, interrupted call has left.
    for name, sequences in collect_files(args):
        path = partial / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        data.save(path, sequences)
        print(f"{output / name}.npz: {len(sequences)} sequences of {args.num_steps} steps")
    partial.rename(output)


def collect_files(args):
    """Yields the name and the `Sequences` of one file after the other.

    Split number k of 3 has the seed 3 seed + k, and its shard number i the seed (3 seed + k, i).
    """
    from tfp_dvbf.data import environments

    options = {"max_episode_steps": args.max_episode_steps or None}
    options |= {"observation": args.observation, "size": args.size or None, "grey": args.grey}
    sizes = {"train": args.num_train, "validation": args.num_validation, "test": args.num_test}
    for index, (name, size) in enumerate(sizes.items()):
        seed = len(sizes) * args.seed + index
        if name != "train" or args.shard_size == 0:
            yield name, environments.collect(args.env_id, size, args.num_steps, seed, **options)
            continue
        for shard, start in enumerate(range(0, size, args.shard_size)):
            count = min(args.shard_size, size - start)
            sequences = environments.collect(
                args.env_id, count, args.num_steps, (seed, shard), **options
            )
            yield f"{name}/{shard:05}", sequences


if __name__ == "__main__":
    command_line.run(main, Args)
