"""Imports go one way only, and the entry points load no TensorFlow."""

import ast
import pathlib
import subprocess
import sys

import tfp_dvbf

PACKAGE = pathlib.Path(tfp_dvbf.__file__).parent
LAYERS = [
    ["__init__", "registry", "errors"],
    ["data"],
    ["layers"],
    ["posteriors"],
    ["inference"],
    ["training", "callbacks"],
    ["dvbf"],
    ["evaluation", "serving"],
    ["experiments"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(path):
    """Returns the modules of the package that a module or subpackage imports."""
    for file in [path] if path.is_file() else path.glob("*.py"):
        yield from imported_by_file(file)


def imported_by_file(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for package, *rest in (name.split(".") for name in names):
            if package == "tfp_dvbf" and rest:
                yield rest[0]


def test_imports_go_down_the_layers():
    modules = {path.stem: path for path in PACKAGE.iterdir() if path.stem != "__pycache__"}
    assert set(modules) == set(LEVEL)
    for name, path in modules.items():
        for other in set(imported(path)) - {name}:
            assert LEVEL[other] < LEVEL[name], f"{name} imports {other}"


def test_entry_points_load_no_tensorflow():
    modules = "sys, tfp_dvbf, tfp_dvbf.data.batching, tfp_dvbf.experiments.run_folder"
    code = f"import {modules}; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    assert set(tfp_dvbf.__all__) <= set(dir(tfp_dvbf))
    for name in tfp_dvbf.__all__:
        for _ in range(2):  # A module of the same name would take its place after the first use.
            public = getattr(tfp_dvbf, name)
            assert public.__doc__ and public.__name__ == name
