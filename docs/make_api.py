"""Writes docs/api.md from the docstrings of the public names: `python docs/make_api.py`."""

import inspect
import pathlib

import tfp_dvbf
from tfp_dvbf import errors, evaluation, inference, layers, posteriors

PAGE = pathlib.Path(__file__).parent / "api.md"
SECTIONS = (tfp_dvbf, layers, posteriors, inference, evaluation)
KERAS = ("build", "call", "get_config", "get_build_config")  # What every layer has.
HEAD = """# Public names

Made from the docstrings by `python docs/make_api.py`; shapes stand in brackets.
"""


def page():
    """Returns the text of the page."""
    parts = [HEAD]
    for module in SECTIONS:
        parts.append(f"## {module.__name__}\n")
        parts += [entry(name, getattr(module, name)) for name in sorted(module.__all__)]
    parts += ["## tfp_dvbf.errors\n", entry("No", errors.No)]
    return "\n".join(parts)


def entry(name, value):
    """Returns the section of one class or function, with the public methods of a class's own."""
    lines = [f"### `{name}{signature(value)}`\n", block(value)]
    if inspect.isclass(value):
        for method_name, method in vars(value).items():
            public = not method_name.startswith("_") and method_name not in KERAS
            if public and inspect.isfunction(method) and method.__doc__:
                lines += [f"#### `{name}.{method_name}{signature(method)}`\n", block(method)]
    return "\n".join(lines)


def signature(value):
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:
        return ""
    kept = [str(each).partition(":")[0] for each in parameters if each.name != "self"]
    return f"({', '.join(kept)})"


def block(value):
    return f"```text\n{inspect.getdoc(value)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
