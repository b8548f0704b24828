"""`import_log.py`: from CSV files to what `train.py --data` reads, or one line and nothing."""

import subprocess
import sys

import import_log
import numpy as np
import pytest

import tfp_dvbf
from tfp_dvbf.experiments import run_folder

STEPS = 200


@pytest.fixture
def csv(tmp_path):
    """A driven first-order system, 200 rows: x[t+1] = 0.9 x[t] + u[t] + noise."""
    return write(tmp_path / "log.csv")


def system():
    rng = np.random.default_rng(1)
    u, x = rng.normal(size=STEPS), np.zeros(STEPS)
    for t in range(STEPS - 1):
        x[t + 1] = 0.9 * x[t] + u[t] + 0.1 * rng.normal()
    return x, u


def write(path, late=0):
    x, u = system()
    rows = zip(range(STEPS), x, np.roll(u, late))
    path.write_text("t [s];x [V];u [A]\n" + "".join(f"{t};{a:.17g};{b:.17g}\n" for t, a, b in rows))
    return path


def args(csv, **others):
    chosen = {"observations": ("x [V]",), "controls": ("u [A]",), "time": "t [s]"}
    chosen |= {"window": 20, "stride": 4, "output": str(csv.parent / "made")}
    return import_log.Args(csv=(str(csv),), **{**chosen, **others})


def test_the_folder_is_what_train_reads(csv, capsys, recwarn):
    import_log.main(args(csv))
    folder = csv.parent / "made"
    splits = run_folder.read_splits(folder)
    assert [len(split) for split in splits] == [31, 3, 1]
    x, u = system()
    np.testing.assert_array_equal(splits[0].observations[1, :, 0], x[4:24].astype(np.float32))
    np.testing.assert_array_equal(splits[2].controls[0, :, 0], u[170:189].astype(np.float32))
    assert splits[0].spec["source"] == str(csv) and splits[0].spec["time_step"] == 1.0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Log(observations ['x [V]'], controls ['u [A]'], records of 200 ")
    assert printed[1] == f"{folder / 'train.npz'}: 31 windows of 20 time steps, 4 apart"
    assert printed[3] == f"{folder / 'test.npz'}: 1 window of 20 time steps, without overlap"
    assert len(printed) == 4 and not recwarn.list


def test_every_time_step_is_tested_once(csv, capsys):
    import_log.main(args(csv, window=10, stride=1))
    test = run_folder.read_splits(csv.parent / "made")[2]
    assert test.spec["stride"] == 10
    expected = system()[0][170:].astype(np.float32).reshape(3, 10)
    np.testing.assert_array_equal(test.observations[:, :, 0], expected)
    assert "test.npz: 3 windows of 10 time steps, without overlap" in capsys.readouterr().out


def test_options_reach_the_log(csv):
    with pytest.warns(UserWarning, match=r"explained best by u\[t-1\]"):  # Aligned without it.
        import_log.main(args(csv, fractions=(0.5, 0.25), control_lead=1))
    made = tfp_dvbf.load(csv.parent / "made" / "validation.npz")
    np.testing.assert_array_equal(made.controls[0, :, 0], system()[1][101:120].astype(np.float32))
    assert made.spec["control_lead"] == 1


def test_late_controls_warn(tmp_path):
    with pytest.warns(UserWarning, match=r"`control_lead=1`"):
        import_log.main(args(write(tmp_path / "late.csv", late=1)))


def test_missing_controls_are_held_if_asked(csv):
    lines = csv.read_text().splitlines(keepends=True)
    csv.write_text("".join([*lines[:10], *lines[12:]]))
    with pytest.raises(ValueError, match=r"log\.csv, line 11: rows before it are missing, and"):
        import_log.main(args(csv))
    import_log.main(args(csv, fill_controls="hold"))
    train = tfp_dvbf.load(csv.parent / "made" / "train.npz")
    assert np.flatnonzero(~train.observed[0]).tolist() == [9, 10]


def test_records_of_one_file_are_split_whole(tmp_path, capsys):
    path, rows = tmp_path / "runs.csv", zip(range(STEPS), *system())
    lines = [f"{t // 40};{t % 40};{x:.9g};{u:.9g}\n".replace(".", ",") for t, x, u in rows]
    path.write_bytes(("run;t [s];x [°];u [A]\n" + "".join(lines)).encode("cp1252"))
    form = {"record": "run", "decimal": ",", "encoding": "cp1252", "observations": ("x [°]",)}
    split = {"split_by": "record", "fractions": (0.6, 0.2), "window": 40}
    import_log.main(args(path, **form, **split))
    splits = run_folder.read_splits(tmp_path / "made")
    assert [len(split) for split in splits] == [3, 1, 1]
    expected = system()[0][160:].astype(np.float32)
    np.testing.assert_allclose(splits[2].observations[0, :, 0], expected, rtol=1e-6)
    assert "records of 40, 40, 40, 40, 40 time steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "others, message",
    [
        ({"csv": ()}, r"`--csv` must be given\."),
        ({"observations": ()}, r"`--observations` must be given\."),
        ({"observations": ("x",)}, r"must have a column 'x'; the nearest .* 'x \[V\]': t \[s\], x"),
        (
            {"window": 21, "fractions": (0.8, 0.1)},
            r"`--window` must not exceed the 20 .* of the validation part",
        ),
        ({"window": 300}, r"the 30 time steps .* of the validation part; got 300"),
        ({"window": 1}, r"`length` must be at least 2; got 1\."),
        ({"record": "run"}, r"must have a column 'run'; its columns are: t \[s\], x \[V\], u"),
        ({"split_by": "record"}, r"must have three records or more; this log has 1"),
        ({"stride": 0}, r"`stride` must be at least 1; got 0\."),
        ({"fractions": (0.8, 0.2)}, r"must be positive fractions .*; got 0\.8 and 0\.2\."),
        ({"fractions": (0.8, 0.3)}, r"must be positive fractions .*; got 0\.8 and 0\.3\."),
        ({"fractions": (0.8,)}, r"`--fractions` must be two numbers; got 1\."),
    ],
)
def test_bad_options_leave_nothing(csv, others, message):
    with pytest.raises(ValueError, match=message):
        import_log.main(import_log.Args(**{**vars(args(csv)), **others}))
    assert [path.name for path in csv.parent.iterdir()] == ["log.csv"]


def test_an_existing_output_is_refused_and_a_failed_write_leaves_none(csv, monkeypatch):
    def full(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(tfp_dvbf.data, "save", full)
        with pytest.raises(OSError, match="no space left"):
            import_log.main(args(csv))
    assert [path.name for path in csv.parent.iterdir()] == ["log.csv"]
    import_log.main(args(csv))
    with pytest.raises(ValueError, match=r"`--output` must not exist yet; got .*made\."):
        import_log.main(args(csv))
    assert {path.name for path in csv.parent.iterdir()} == {"log.csv", "made"}


def test_the_command_line_says_one_line_without_tensorflow(csv):
    command = [sys.executable, import_log.__file__, "--csv", str(csv), "--observations", "level"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"error: {csv} must have a column 'level'; its columns are: " + (
        "t [s], x [V], u [A].\n"
    )
