"""Times training side by side with JAX and PyTorch, and what else a user waits for."""

import dataclasses

from tfp_dvbf import errors
from tfp_dvbf.experiments import command_line, run_folder, startup
from tfp_dvbf.experiments.benchmarking import measures, processes, summary
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args:
    """Times programs in turns, each in its own process, on the same cores at the poster's sizes."""

    what: tuple[str, ...] = option(
        tuple(measures.MEASURES), "what is timed", list(measures.MEASURES)
    )
    posteriors: tuple[str, ...] = option(
        processes.POSTERIORS, "posteriors to train", list(processes.POSTERIORS)
    )
    peers: tuple[str, ...] = option(
        tuple(processes.PEERS), "programs to compare with", list(processes.PEERS)
    )
    batch_sizes: tuple[int, ...] = option((16, 64), "sequences a batch")
    threads: tuple[int, ...] = option((1, 2), "cores and threads of each program")
    rounds: int = option(7, "timings of each program, taken in turns")
    device: str = option("cpu", "where the programs run", ["cpu", "gpu"])
    json: str | None = option(None, "new file for the timings, written as they come")


def main(args):
    check(args)
    args = dataclasses.replace(args, peers=tuple(processes.installed(args.peers)))
    about = {**processes.describe(args.peers), "device": args.device, "rounds": args.rounds}
    print(", ".join([about["cpu"], f"{about['cores']} cores", about["system"], args.device]))
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()), flush=True)
    rows = []
    for what in args.what:
        for together in measures.MEASURES[what](args):
            print(summary.line(together), flush=True)
            rows += together
            if args.json:  # At once: all of it takes most of an hour.
                run_folder.write_json(args.json, {"about": about, "rows": rows})
        print(f"\n{what}\n{summary.table(rows, what)}\n", flush=True)


def check(args):
    """Raises ValueError if an option is out of its range."""
    command_line.check_choices(args)
    errors.check_integer("rounds", args.rounds)
    for name in ["batch_sizes", "threads"]:
        for value in getattr(args, name):
            errors.check_integer(name, value)
        command_line.check_distinct(name, getattr(args, name))
    cores = startup.num_cores()
    if max(args.threads) > cores:
        raise ValueError(f"`threads` must not exceed the {cores} cores; got {max(args.threads)}.")
    command_line.check_new_file("json", args.json)


if __name__ == "__main__":
    command_line.run(main, Args)
