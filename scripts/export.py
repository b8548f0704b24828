"""Exports a trained model as a SavedModel that needs nothing but TensorFlow."""

import dataclasses
import pathlib

from tfp_dvbf import registry
from tfp_dvbf.experiments import command_line, options, run_folder
from tfp_dvbf.experiments.command_line import option


@dataclasses.dataclass
class Args:
    """Exports the model of a run folder, with its arguments and metrics inside."""

    model: str = option("runs/innovation", "run folder of train.py, or a .keras file")
    output: str = option("runs/innovation/saved_model", "folder to make")
    signatures: tuple[str, ...] = option(
        (),
        "signatures to write; without this option, all that the model has",
        [*registry.SIGNATURES],
    )
    jit_compile: bool = option(
        False, "XLA compiles them, seconds for all new sizes; few streams are faster then"
    )
    import_: tuple[str, ...] = option((), options.IMPORT)


def main(args):
    command_line.check_choices(args)
    output = command_line.check_output(args.output)
    from tfp_dvbf.experiments import startup

    startup.start()
    command_line.import_modules(args.import_)
    from tfp_dvbf.serving import saved_model

    model = run_folder.load_model(args.model)
    about = metadata(pathlib.Path(args.model))
    names = args.signatures or None
    reasons = saved_model.export(model, output, about, names, args.jit_compile)
    print(f"exported to {output}")
    for name, reason in reasons.items():
        print(f"  {name:<16}{'' if reason is None else f'left out: {reason}'}".rstrip())


def metadata(run):
    """Returns training arguments, metrics and data of a run folder, as far as there are any."""
    paths = {"training": run / "args.json", "metrics": run / run_folder.METRICS}
    about = {name: run_folder.read_json(path) for name, path in paths.items() if path.is_file()}
    data = about["metrics"].pop("data", None) if "metrics" in about else None
    return about if data is None else {**about, "data": data}


if __name__ == "__main__":
    command_line.run(main, Args)
