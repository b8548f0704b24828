"""Shows what makes the intervals of a free run honest, on blocks of a record that were left out."""

import dataclasses

from tfp_dvbf.experiments import command_line, options, published_records, run_folder, tables
from tfp_dvbf.experiments.command_line import option

DEFAULT_FLOORS = (5e-3, 1e-4)  # Of the emission and of the transition, where nothing is said.
# What is changed of the protocol of `sysid.py`, and of its models.
SETTINGS = {
    "as sysid.py": ({}, {}),
    "states held within 10": ({"state_bound": 10.0}, {}),
    "noise floors 0.05, 0.03": ({"noise_floors": (0.05, 0.03)}, {}),
    "default noise floors": ({"noise_floors": DEFAULT_FLOORS}, {}),
    "half of the steps hidden": ({"hidden_steps": (0.5, 50.0)}, {}),
    "gaussian": ({}, {"posterior": "gaussian"}),
    "no steps hidden": ({"hidden_steps": None}, {}),
}


@dataclasses.dataclass
class Args:
    """Cross-validates settings in time; the test record is not read. See docs/intervals.md."""

    benchmark: str = option("tanks", "which benchmark", list(published_records.PROTOCOLS))
    data: str | None = option(None, "as for sysid.py")
    settings: tuple[str, ...] = option(tuple(SETTINGS), "what is compared", list(SETTINGS))
    seeds: tuple[int, ...] = option((1, 2), "so many models a block, alone and as one")
    epochs: int = option(0, "epochs of each model; 0 for those of the benchmark")
    output: str = option("runs/intervals", "folder to make: run folders, report.json, report.md")
    resume: bool = option(False, "continue in --output; finished runs are kept")
    verbose: int = option(1, options.VERBOSE, [0, 1, 2])


def main(args):
    command_line.check_choices(args)
    command_line.check_seeds(args.seeds)
    command_line.check_distinct("settings", args.settings)
    if not args.settings or args.epochs < 0:
        raise ValueError("`settings` must not be empty, and `epochs` must not be negative.")
    output = command_line.check_output(args.output, args.resume)
    pairs = published_records.read(args.benchmark, args.data).train
    from tfp_dvbf.experiments import startup

    startup.start(args.seeds[0])
    rows = []
    for name in args.settings:
        rows += rows_of(args, name, pairs, output / name.replace(" ", "_"))
    about = {"benchmark": args.benchmark, "seeds": args.seeds, "epochs": args.epochs}
    run_folder.write_json(output / "report.json", {**about, "rows": rows})
    (output / "report.md").write_text(f"{tables.identification_table(rows)}\n")
    print(f"\n{(output / 'report.md').read_text()}")
    print(f"report and run folders: {output}")


def rows_of(args, name, pairs, output):
    """Returns the scores of a setting: of models alone, and of those of a block as one."""
    from tfp_dvbf.experiments import identification

    changes, model_changes = SETTINGS[name]
    protocol = published_records.PROTOCOLS[args.benchmark]._replace(**changes)
    log = identification.log_of(pairs, protocol)
    alone, together, blocks = [], [], []
    for index in range(identification.NUM_FOLDS):
        models = []
        for seed in args.seeds:
            model = identification.make_model(protocol, seed=seed, **model_changes)
            settings = identification.settings_of(protocol, seed, args.epochs, args.verbose)
            folder = output / f"block-{index}-seed-{seed}"
            model, block = identification.train_without_block(
                model, log, index, protocol, settings, folder, args.resume
            )
            models.append(model)
        alone.append(models)
        together.append(identification.as_one(models))
        blocks.append(block)
    steps, count = protocol.initial_steps, len(args.seeds)
    found = {
        f"{name}, seed {seed}": identification.pooled(models, blocks, steps)
        for seed, models in zip(args.seeds, zip(*alone))
    }
    if count > 1:
        found[f"{name}, {count} as one"] = identification.pooled(together, blocks, steps)
    return [
        {"seed": model, "record": "left out", **identification.chosen(scores)}
        for model, scores in found.items()
    ]


if __name__ == "__main__":
    command_line.run(main, Args)
