"""Imports one long record of a system, or several, from CSV files."""

import dataclasses

from tfp_dvbf.experiments import command_line
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args:
    """Imports CSV files as train.npz, validation.npz and test.npz, split in time order."""

    csv: tuple[str, ...] = option((), "CSV files with a line of column names")
    observations: tuple[str, ...] = option((), "columns that were measured")
    controls: tuple[str, ...] = option((), "columns that were applied")
    time: str | None = option(None, "column of times: numbers or ISO 8601 timestamps")
    record: str | None = option(
        None, "column that says which record a row belongs to; each file is one without it"
    )
    decimal: str = option(".", "what divides a number from its decimals", (".", ","))
    encoding: str = option("utf-8", "encoding of the files, such as cp1252")
    window: int = option(200, "time steps of a window")
    stride: int = option(
        10, "time steps between the starts of two windows; those of the test part do not overlap"
    )
    split_by: str = option(
        "time", "cut each record in three, or leave each whole", ("time", "record")
    )
    fractions: tuple[float, ...] = option(
        (0.7, 0.15), "training and validation parts; the rest tests"
    )
    control_lead: int = option(0, "1 where a control acts at once (feed-through)", (-1, 0, 1))
    fill_controls: str | None = option(
        None, "hold: the last control before it takes the place of a missing one", ("hold",)
    )
    like: str | None = option(
        None, "folder of an earlier import, whose columns these are; its offsets are subtracted"
    )
    output: str = option("data/log", "folder to make")


def main(args):
    from tfp_dvbf import data
    from tfp_dvbf.data import alignment, logs

    output = command_line.check_output(args.output)
    for name in ["csv", "observations"]:
        if not getattr(args, name):
            raise ValueError(f"`--{name}` must be given.")
    if len(args.fractions) != 2:
        raise ValueError(f"`--fractions` must be two numbers; got {len(args.fractions)}.")
    log = logs.Log.from_csv(
        args.csv,
        args.observations,
        args.controls,
        args.time,
        args.record,
        decimal=args.decimal,
        encoding=args.encoding,
        control_lead=args.control_lead,
        fill_controls=args.fill_controls,
    )
    if args.like:
        log.offsets = offsets_of(args.like, log)
    print(log)
    parts = log.split(*args.fractions, by=args.split_by)
    splits = dict(zip(["train", "validation", "test"], parts))
    check_window(args.window, splits)
    strides = {"train": args.stride, "validation": args.stride, "test": args.window}
    files = {name: splits[name].windows(args.window, strides[name]) for name in splits}
    alignment.check_alignment_of(files["train"])
    with data.new_folder(output) as folder:
        for name, sequences in files.items():
            data.save(folder / f"{name}.npz", sequences)
    for name, sequences in files.items():
        apart = f"{strides[name]} apart" if strides[name] < args.window else "without overlap"
        number = f"{len(sequences)} window{'s' * (len(sequences) > 1)}"
        print(f"{output / name}.npz: {number} of {args.window} time steps, {apart}")


def offsets_of(folder, log):
    """Returns the offsets of an earlier import of the same columns, by their names."""
    from tfp_dvbf.data import columns
    from tfp_dvbf.experiments import run_folder

    known = run_folder.read_splits(folder)[0].spec or {}
    names = {key: getattr(log, key) for key in ["observation_names", "control_names"]}
    columns.check_same("csv", names | {"offsets": known.get("offsets")}, known)
    return known.get("offsets") or {}


def check_window(window, splits):
    """Raises ValueError unless each part has a record that is as long as a window."""
    longest = {name: max(map(len, part.records)) for name, part in splits.items()}
    least = min(longest, key=longest.get)
    if longest[least] < window:
        raise ValueError(
            f"`--window` must not exceed the {longest[least]} time steps of the longest record of "
            f"the {least} part; got {window}. Other --fractions make that part longer."
        )


if __name__ == "__main__":
    command_line.run(main, Args)
