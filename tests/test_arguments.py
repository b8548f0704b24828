import dataclasses

import pytest

from tfp_dvbf import arguments


@dataclasses.dataclass
class Args:
    """A script."""

    name: str = arguments.option("a", "a name", ["a", "b"])
    num_steps: int = arguments.option(3, "steps")
    seeds: tuple[int, ...] = arguments.option((1, 2), "seeds")
    file: str | None = arguments.option(None, "a file")
    resume: bool = arguments.option(False, "go on")


def test_defaults_and_options():
    assert arguments.parse(Args, []) == Args()
    line = "--name b --num-steps 5 --seeds 4 5 6 --file x --resume"
    assert arguments.parse(Args, line.split()) == Args("b", 5, (4, 5, 6), "x", True)


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        arguments.parse(Args, ["--help"])
    printed = capsys.readouterr().out
    assert "A script." in printed and "--num-steps" in printed and "(default: 3)" in printed


@pytest.mark.parametrize(
    "line, message",
    [("--name c", "invalid choice: 'c'"), ("--num-steps x", "invalid int"), ("--no", "--no")],
)
def test_bad_command_lines_end_with_one_line(capsys, line, message):
    with pytest.raises(SystemExit, match="2"):
        arguments.parse(Args, line.split())
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_check_choices():
    arguments.check_choices(Args())
    with pytest.raises(ValueError, match="`name` must be one of a, b; got 'c'"):
        arguments.check_choices(Args(name="c"))


@pytest.mark.parametrize("error", [ValueError("`x` must be\n 1."), FileNotFoundError("no x")])
def test_run_turns_bad_input_into_one_line(capsys, monkeypatch, error):
    monkeypatch.setattr("sys.argv", ["script"])

    def main(args):
        raise error

    with pytest.raises(SystemExit, match="2"):
        arguments.run(main, Args)
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
