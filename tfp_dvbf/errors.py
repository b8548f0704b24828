"""What error messages say; imports no TensorFlow."""

import re

# What TensorFlow puts before a message: lines of its own, and where in a graph it came from.
_PREAMBLE = re.compile(r"Graph execution error:|Detected at |<stack traces|\s*$")
_ORIGIN = re.compile(r"({{.*?}} )?(Error in user-defined .*? Iterator::\S*: )?(ValueError: )?")


def first_line(error):
    """Returns the first line of an error's message that says something, its name if none does."""
    lines = [line for line in str(error).splitlines() if not _PREAMBLE.match(line)]
    return _ORIGIN.sub("", lines[0], count=1) if lines else type(error).__name__
