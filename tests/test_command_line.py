import dataclasses
import sys
import warnings

import pytest

from tfp_dvbf import errors
from tfp_dvbf.experiments import command_line


@dataclasses.dataclass
class Args:
    """A script."""

    name: str = command_line.option("a", "a name", ["a", "b"])
    num_steps: int = command_line.option(3, "steps")
    seeds: tuple[int, ...] = command_line.option((1, 2), "seeds")
    file: str | None = command_line.option(None, "a file")
    resume: bool = command_line.option(False, "go on")
    import_: tuple[str, ...] = command_line.option((), "modules")


@dataclasses.dataclass
class Rated(Args):
    rate: float = command_line.option(0.5, "a rate")


def test_defaults_and_options():
    assert command_line.parse(Args, []) == Args()
    line = "--name b --num-steps 5 --seeds 4 5 6 --file x --resume --import a b"
    assert command_line.parse(Args, line.split()) == Args("b", 5, (4, 5, 6), "x", True, ("a", "b"))


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        command_line.parse(Args, ["--help"])
    printed = capsys.readouterr().out
    assert "A script." in printed and "--num-steps" in printed and "(default: 3)" in printed


@pytest.mark.parametrize(
    "line, message",
    [("--name c", "invalid choice: 'c'"), ("--num-steps x", "invalid int"), ("--no", "--no")],
)
def test_bad_command_lines_end_with_one_line(capsys, line, message):
    with pytest.raises(SystemExit, match="2"):
        command_line.parse(Args, line.split())
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_check_choices():
    command_line.check_choices(Args())
    with pytest.raises(ValueError, match="`name` must be one of a, b; got 'c'"):
        command_line.check_choices(Args(name="c"))


@pytest.mark.parametrize("error", [ValueError("`x` must be\n 1."), FileNotFoundError("no x")])
def test_run_turns_bad_input_into_one_line(capsys, monkeypatch, error):
    monkeypatch.setattr("sys.argv", ["script"])

    def main(args):
        raise error

    with pytest.raises(SystemExit, match="2"):
        command_line.run(main, Args)
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1


def test_replace_takes_values_of_a_json_file():
    values = {"name": "b", "num_steps": 5, "rate": 1, "file": None, "resume": True}
    assert command_line.replace(Rated(), values) == Rated("b", 5, file=None, resume=True, rate=1)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"size": 1, "age": 2}, "there are no options age, size"),
        ({"num_steps": "5"}, "`num_steps` cannot be '5'"),
        ({"num_steps": True}, "`num_steps` cannot be True"),
        ({"num_steps": None}, "`num_steps` cannot be None"),
        ({"num_steps": 5.0}, "`num_steps` cannot be 5.0"),
        ({"rate": [1]}, r"`rate` cannot be \[1\]"),
    ],
)
def test_replace_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        command_line.replace(Rated(), values)


@pytest.mark.parametrize(
    "message, line",
    [
        ("a\nb", "a"),
        ("", "ValueError"),
        (
            "Graph execution error:\n\nDetected at node PyFunc defined at x:\n<stack traces un>\n"
            "Error in user-defined function passed to MapDataset:1 transformation with iterator: "
            "Iterator::Root::Prefetch::Map: ValueError: x.npz must be.\nTraceback",
            "x.npz must be.",
        ),
        ("{{function_node __wrapped__X}} /a; No such file\n [Op]", "/a; No such file"),
    ],
)
def test_first_line(message, line):
    assert errors.first_line(ValueError(message)) == line


def test_modules_of_the_working_directory_are_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "tfp_dvbf_test_parts.py").write_text("value = 3")
    command_line.import_modules(("tfp_dvbf_test_parts",))
    assert sys.modules.pop("tfp_dvbf_test_parts").value == 3
    message = "`--import` must name a module; 'tfp_dvbf_no' failed, ModuleNotFoundError: No module"
    with pytest.raises(ValueError, match=message):
        command_line.import_modules(("tfp_dvbf_no",))


@pytest.mark.parametrize(
    "seeds, message",
    [
        ((), "`seeds` must not be empty"),
        ((1, 2, 1), "`seeds` must differ; got 1, 2, 1"),
        ((1, -1), r"`seeds` must lie in \[0, 2\*\*32\); got -1"),
        ((2**32,), r"`seeds` must lie in \[0, 2\*\*32\); got 4294967296"),
    ],
)
def test_check_seeds(seeds, message):
    command_line.check_seeds((1, 0, 2**32 - 1))
    with pytest.raises(ValueError, match=message):
        command_line.check_seeds(seeds)


@dataclasses.dataclass
class Switches:
    """Switches that are on or off, and numbers of which there may be none."""

    on: bool = command_line.option(True, "on")
    off: bool = command_line.option(False, "off")
    numbers: tuple[int, ...] = command_line.option((1, 2), "numbers", nargs="*")


def test_what_is_on_can_be_switched_off_and_no_number_be_given():
    assert command_line.parse(Switches, []) == Switches()
    words = ["--no-on", "--off", "--numbers"]
    assert command_line.parse(Switches, words) == Switches(on=False, off=True, numbers=())


def test_a_warning_is_one_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "argv", ["script"])
    command_line.run(lambda args: None, Args)
    shown = warnings.formatwarning(UserWarning("late controls"), UserWarning, "alignment.py", 99)
    assert shown == "warning: late controls\n"
