"""Imports and calls go one way only, and the entry points load no TensorFlow."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import tfp_dvbf

PACKAGE = pathlib.Path(tfp_dvbf.__file__).parent
LAYERS = [
    ["__init__", "registry", "errors"],
    ["data"],
    ["layers"],
    ["posteriors"],
    ["inference"],
    ["best_weights", "callbacks", "collapse", "feeding", "threads"],
    ["keras_arguments"],
    ["training"],
    ["dvbf", "ensemble"],
    ["evaluation", "serving"],
    ["experiments"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
NAMED_TUPLE = ("_asdict", "_replace", "_fields")
PATH = re.compile(r"(tfp_dvbf[\w.]*):\w+")  # How the registry names a class.


def name_of(path):
    """Returns the dotted name of a file's module."""
    parts = ["tfp_dvbf", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(path): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
PACKAGES = {name_of(path) for path in PACKAGE.rglob("__init__.py")}


def imports(tree):
    """Yields the local name, the module and the name in it of each import of the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} is a relative import"
            found = [(alias.asname or alias.name, node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [(alias.asname or alias.name, alias.name, None) for alias in node.names]
        else:
            continue
        yield from (each for each in found if each[1].split(".")[0] == "tfp_dvbf")


def lazily_imported():
    """Returns the public names of `tfp_dvbf` mapped to the modules that they come from."""
    assigned = next(
        node
        for node in TREES["tfp_dvbf"].body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_MODULES"
    )
    return {name: f"tfp_dvbf.{module}" for name, module in ast.literal_eval(assigned.value).items()}


def resolve(module, name):
    """Returns the module that defines `name`, which another one reads as `module.name`.

    What a package only hands on belongs to where it comes from.
    """
    if f"{module}.{name}" in TREES:
        return f"{module}.{name}"
    if module in PACKAGES:
        for local, source, original in imports(TREES[module]):
            if local == name:
                return resolve(source, original)
    if module == "tfp_dvbf" and name in lazily_imported():
        return resolve(lazily_imported()[name], name)
    return module


def used_by(tree):
    """Returns the modules that a module uses: what it imports and, of packages, what it reads."""
    used, packages = set(), {}
    for local, module, name in imports(tree):
        target = module if name is None else resolve(module, name)
        if target in PACKAGES and (name is None or f"{module}.{name}" == target):
            packages[local] = target
        else:
            used.add(target)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and dotted(node.value) in packages:
            used.add(resolve(packages[dotted(node.value)], node.attr))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            used |= {match.group(1) for match in [PATH.fullmatch(node.value)] if match}
    return used


def dotted(node):
    """Returns the dotted name that an expression is, or None."""
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return owner and f"{owner}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


USED = {name: used_by(tree) - {name} for name, tree in TREES.items()}


def top(name):
    """Returns the name in `LAYERS` of a module."""
    return (name.split(".") + ["__init__"])[1]


def cycle(graph):
    """Returns the names of a cycle of a graph, None if it has none."""
    done = set()

    def visit(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        found = next(filter(None, (visit(other, [*path, name]) for other in graph[name])), None)
        done.add(name)
        return found

    return next(filter(None, (visit(name, []) for name in graph)), None)


def private_names(tree):
    """Yields the private names that are read of anything but `self` and `cls`, with their lines."""
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Attribute) and dotted(node.value) not in ("self", "cls"):
            found = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            found = [alias.name for alias in node.names]
        for name in found:
            if re.match(r"_(?!_)", name) and name not in NAMED_TUPLE:
                yield f"{name}, line {node.lineno}"


def test_every_module_has_a_layer():
    assert {top(name) for name in TREES} == set(LEVEL)


@pytest.mark.parametrize("name", sorted(TREES))
def test_calls_go_down_the_layers(name):
    """The names of parts in the registry aside, which it loads when it is asked for one."""
    for other in USED[name]:
        below = LEVEL[top(other)] < LEVEL[top(name)]
        own = top(other) == top(name) or top(name) in ("__init__", "registry")
        assert below or own, f"{name} uses {other}"


def test_the_modules_have_no_cycle_of_calls():
    """Neither within a folder nor by way of the registry."""
    assert cycle(USED) is None


@pytest.mark.parametrize("name", sorted(TREES))
def test_no_module_uses_a_private_name_of_another(name):
    assert not list(private_names(TREES[name]))


def test_what_these_tests_see():
    """They find calls through a package, and what they are to forbid."""
    tree = ast.parse("import tfp_dvbf\nfrom tfp_dvbf import data as d\nd.Batch, tfp_dvbf.DVBF")
    assert used_by(tree) == {"tfp_dvbf.data.sequences", "tfp_dvbf.dvbf"}
    tree = ast.parse("def f():\n    from tfp_dvbf.layers import MLP, flows")
    assert used_by(tree) == {"tfp_dvbf.layers.networks", "tfp_dvbf.layers.flows"}
    assert "tfp_dvbf.posteriors.gaussian" in USED["tfp_dvbf.registry"]
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    tree = ast.parse("self._a, cls._b, x._replace(), x.__doc__\nx.y._c\nfrom z import _d")
    assert sorted(private_names(tree)) == ["_c, line 2", "_d, line 3"]


def test_entry_points_load_no_tensorflow():
    modules = [
        "sys",
        "tfp_dvbf.data.batching",
        "tfp_dvbf.evaluation",
        "tfp_dvbf.experiments.recipe",
    ]
    modules += ["tfp_dvbf.experiments.run_folder", "tfp_dvbf.experiments.published_records"]
    code = f"import {', '.join(modules)}; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    assert set(tfp_dvbf.__all__) <= set(dir(tfp_dvbf))
    for name in tfp_dvbf.__all__:
        for _ in range(2):  # A module of the same name would take its place after the first use.
            public = getattr(tfp_dvbf, name)
            assert public.__doc__ and public.__name__ == name


@pytest.mark.parametrize("folder", ["tfp_dvbf", "scripts", "tests", "docs"])
def test_files_and_classes_are_short(folder):
    """Files have less than 300 lines, classes less than 200 without their docstrings."""
    for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
        text = path.read_text()
        assert text.count("\n") < 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                told = [ast.get_docstring(each) or "" for each in ast.walk(node) if has_text(each)]
                lines = node.end_lineno - node.lineno + 1 - sum(len(t.split("\n")) for t in told)
                assert lines < 200, f"{path}: {node.name}"


def has_text(node):
    """Returns whether a node of a syntax tree may have a docstring."""
    return isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
