"""How scripts start: what they refuse, and that `--help` loads no TensorFlow."""

import pathlib
import subprocess
import sys

import benchmark
import compare
import demo
import evaluate
import export
import generate_data
import identify
import import_log
import investigate_intervals
import investigate_kl
import known_physics
import pool
import pytest
import range_only
import reproduce
import sysid
import train
import tune

SCRIPTS = [
    *[benchmark, compare, demo, evaluate, export, generate_data, identify, import_log],
    *[
        investigate_intervals,
        investigate_kl,
        known_physics,
        pool,
        range_only,
        reproduce,
        sysid,
        train,
        tune,
    ],
]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"epochs": 0}, "`epochs` must be positive; got 0"),
        ({"learning_rate": -1.0}, "`learning_rate` must be positive; got -1.0"),
        ({"seed": -1}, r"`seed` must lie in \[0, 2\*\*32\); got -1"),
        (
            {"posterior": "iaf9"},
            "`posterior` must be one of innovation, gaussian, iaf, .*; got 'iaf9'",
        ),
        ({"num_flows": -1}, "`num_flows` must be at least 0; got -1"),
        (
            {"posterior": "chain_iaf", "num_flows": 0},
            "`num_flows` must be at least 1; got 0",
        ),
        ({"objective": "fivo"}, "`objective` must be one of elbo, iwae; got 'fivo'"),
        ({"posterior": "chain_iaf", "objective": "iwae"}, "`objective` iwae is not for chain_iaf"),
        ({"emission": "bernoulli"}, "`observations` must be 0 or 1 for the bernoulli emission"),
        (
            {"encoder": "both"},
            "`encoder` must be one of filter, smoother, convolutional; got 'both'",
        ),
        ({"num_train_samples": 0}, "`num_train_samples` must be positive; got 0"),
        ({"initial_frames": 9}, "`initial_frames` must not exceed the 8 steps of a sequence"),
        ({"window": 1}, "`window` must be at least 2, or 0 for whole sequences; got 1"),
        *[
            (
                {"window": window, "initial_frames": 3},
                r"`window` must lie between the 3 time steps that q\(z\[0\]\) sees and the 8",
            )
            for window in (2, 9)
        ],
        ({"initial_steps": 8}, "`initial_steps` must be less than the 8 steps of a sequence"),
        (
            {"initial_frames": 3, "initial_steps": 2},
            r"`initial_steps` must be at least the 3 that q\(z\[0\]\) sees; got 2",
        ),
        ({"initial_steps": -1}, "`initial_steps` must not be negative; got -1"),
        ({"learning_rate_decay": "step"}, "`learning_rate_decay` must be one of cosine, none"),
        ({"data": "nowhere"}, "nowhere does not exist"),
        ({"output": "."}, "`--output` must not exist yet without `--resume`"),
    ],
)
def test_train_refuses_before_anything_is_written(dataset, tmp_path, change, message):
    args = train.Args(**{"data": str(dataset), "output": str(tmp_path / "run"), **change})
    with pytest.raises(ValueError, match=message):
        train.main(args)
    assert not (tmp_path / "run").exists()


HELP = """
import importlib, sys
from tfp_dvbf.experiments import command_line
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    script = importlib.import_module(name)
    sys.argv = [name, "--help"]
    try:
        command_line.run(script.main, script.Args)
    except SystemExit as end:
        assert end.code == 0
    print("end of", name)
    assert not {"tensorflow", "scipy", "matplotlib"} & set(sys.modules), name
"""


def test_help_imports_nothing_slow():
    names = [script.__name__ for script in SCRIPTS]
    command = [sys.executable, "-c", HELP, str(SCRIPT_FOLDER), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    texts = done.stdout.split("end of ")
    assert [text.partition("\n")[0] for text in texts[1:]] == names
    assert all("--help" in text for text in texts[:-1])


SCRIPT_FOLDER = pathlib.Path(train.__file__).parent


def test_a_script_ends_with_one_line_on_bad_input(tmp_path):
    command = [sys.executable, train.__file__, "--data", str(tmp_path / "none.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
