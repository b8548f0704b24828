"""What error messages say, and how a part says what it cannot do; imports no TensorFlow."""

import difflib
import numbers
import operator
import re
from typing import NamedTuple


class DivergenceError(ValueError):
    """Training has met a value that is not finite."""


class No(NamedTuple):
    """What a part answers where it cannot do something: false, with the reason.

    Attributes:
      reason: Why not, a clause that can follow a colon.
    """

    reason: str

    def __bool__(self):
        return False


def check_flag(name, value):
    """Returns `value`, or raises ValueError unless it is True or False."""
    if not _is_bool(value):
        raise ValueError(f"`{name}` must be True or False; got {value!r}.")
    return bool(value)


def _is_bool(value):
    """Returns whether `value` is True or False, of Python or of NumPy."""
    return type(value).__name__ in ("bool", "bool_")


def check_integer(name, value, least=1):
    """Returns `value` as an int, or raises ValueError unless it is an integer of at least `least`.

    `least` None allows any. NumPy's integers are integers; True and False are not.
    """
    try:
        if _is_bool(value):
            raise TypeError
        number = operator.index(value)
    except TypeError as error:
        raise ValueError(f"`{name}` must be an integer; got {value!r}.") from error
    if least is not None and number < least:
        raise ValueError(f"`{name}` must be at least {least}; got {number}.")
    return number


def check_positive(name, value):
    """Returns `value` as a float, or raises ValueError unless it is positive and finite."""
    number = not _is_bool(value) and isinstance(value, numbers.Real)
    if not number or not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be positive and finite; got {value!r}.")
    return float(value)


def check_units(name, units, least=0):
    """Returns the sizes of `least` layers or more as integers, or raises ValueError."""
    refusal = f"`{name}` must be a sequence of positive integers; got {units!r}."
    if not isinstance(units, (list, tuple)):
        raise ValueError(refusal)
    if len(units) < least:
        raise ValueError(f"`{name}` must have at least {least} layer; got {units!r}.")
    try:
        return tuple(check_integer(name, size) for size in units)
    except ValueError as error:
        raise ValueError(refusal) from error


def check_choice(name, value, choices):
    """Raises ValueError, naming the nearest of `choices`, unless `value` is one of them."""
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}{hint}")


# What TensorFlow puts before a message: lines of its own, and where in a graph it came from.
_PREAMBLE = re.compile(
    r"Graph execution error:|Detected at |<stack traces|Exception encountered when calling|\s*$"
)
_ORIGIN = re.compile(r"({{.*?}} )?(Error in user-defined .*? Iterator::\S*: )?(ValueError: )?")


def first_line(error):
    """Returns the first line of an error's message that says something, its name if none does."""
    lines = [line for line in str(error).splitlines() if not _PREAMBLE.match(line)]
    return _ORIGIN.sub("", lines[0], count=1) if lines else type(error).__name__
