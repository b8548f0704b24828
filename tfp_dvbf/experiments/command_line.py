"""Command lines from dataclasses; imports no TensorFlow, so that `--help` answers at once."""

import argparse
import dataclasses
import importlib
import os
import pathlib
import sys
import typing
import warnings

from tfp_dvbf import errors


def option(default, help, choices=None, nargs="+"):
    """Returns a dataclass field with its line of help.

    A tuple takes as many values as `nargs` says, "*" where none is a choice too. A truth value
    that is True by default has `--no-option`.
    """
    about = {"help": help, "choices": choices, "nargs": nargs}
    return dataclasses.field(default=default, metadata=about)


def parse(args_class, argv=None):
    """Returns an `args_class` from the command line: one `--option` for each of its fields.

    A field may end in an underscore to be named after a word of Python's: `import_`.
    """
    parser = _Parser(
        description=args_class.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    hints = typing.get_type_hints(args_class)
    for field in dataclasses.fields(args_class):
        name = "--" + field.name.rstrip("_").replace("_", "-")
        keywords = _keywords(field, hints[field.name])
        parser.add_argument(name, dest=field.name, default=field.default, **keywords)
    values = vars(parser.parse_args(argv))
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return args_class(**{**values, **lists})


def check_choices(args):
    """Raises ValueError if a field of `args` is none of its choices (as the parser would)."""
    for field in dataclasses.fields(args):
        choices, value = field.metadata["choices"], getattr(args, field.name)
        for item in value if isinstance(value, tuple) else [value]:
            if choices and item not in choices:
                names = ", ".join(map(str, choices))
                raise ValueError(f"`{field.name}` must be one of {names}; got {item!r}.")


def import_modules(names):
    """Imports the modules that `--import` names, those of the working directory among them.

    Raises:
      ValueError: If one cannot be imported.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # A module may raise anything.
            reason = f"{type(error).__name__}: {errors.first_line(error)}"
            raise ValueError(f"`--import` must name a module; {name!r} failed, {reason}") from error


def replace(args, values):
    """Returns `args` with other values, those of a JSON file, by the names of its plain fields.

    Raises:
      ValueError: If there is no such field, or it cannot hold the value.
    """
    hints = typing.get_type_hints(type(args))
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"there are no options {', '.join(unknown)}.")
    for name, value in values.items():
        kinds = (*typing.get_args(hints[name]), hints[name])
        if type(value) not in kinds and not (float in kinds and type(value) is int):
            raise ValueError(f"`{name}` cannot be {value!r}.")
    return dataclasses.replace(args, **values)


def check_distinct(name, values):
    """Raises ValueError if one of `values`, those of the option called `name`, comes twice."""
    if len(set(values)) < len(values):
        raise ValueError(f"`{name}` must differ; got {', '.join(map(str, values))}.")


def check_seeds(seeds):
    """Raises ValueError unless the option `seeds` holds different seeds, one or more."""
    if not seeds:
        raise ValueError("`seeds` must not be empty.")
    check_distinct("seeds", seeds)
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(f"`seeds` must lie in [0, 2**32); got {seed}.")


def check_output(output, resume=None):
    """Returns the path of `--output`, or raises ValueError if it exists and is not to be resumed.

    Args:
      output: The path.
      resume: The option `--resume`, None where there is none.
    """
    output = pathlib.Path(output)
    if output.exists() and not resume:
        without = "" if resume is None else " without `--resume`"
        raise ValueError(f"`--output` must not exist yet{without}; got {output}.")
    return output


def check_new_file(name, path):
    """Raises ValueError unless a file can be made at `path`, the option called `name`, or None."""
    if path is None:
        return
    if os.path.exists(path):
        raise ValueError(f"`--{name}` must not exist yet; got {path}.")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(f"`--{name}` must lie in a folder that exists; got {path}.")


def _keywords(field, hint):
    keywords = {"help": field.metadata["help"]}
    if hint is bool:
        switch = argparse.BooleanOptionalAction if field.default else "store_true"
        return {**keywords, "action": switch}
    if typing.get_origin(hint) is tuple:
        keywords["nargs"] = field.metadata["nargs"]
    kinds = [kind for kind in typing.get_args(hint) if kind not in (type(None), Ellipsis)]
    keywords["type"] = kinds[0] if kinds else hint
    if field.metadata["choices"]:
        return {**keywords, "choices": field.metadata["choices"]}
    return {**keywords, "metavar": field.name.strip("_").upper()}


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"error: {message}\n")


def run(main, args_class):
    """Runs a script: bad input ends with one line on stderr and exit status 2.

    A warning is one line too, without the line of our code that gave it.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        main(parse(args_class))
    except BrokenPipeError:  # The reader of our output left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
