"""Whether two data sets have the same columns in the same units."""

KEYS = ("observation_names", "control_names", "offsets")  # Of a spec.


def check_same(name, spec, known):
    """Raises ValueError where the spec of a data set contradicts that of another one.

    What one of them does not say is not compared: a spec need not have names, for example. One with
    names and without offsets has had nothing subtracted.

    Args:
      name: What the caller calls the data set.
      spec: Its spec, a dictionary or None.
      known: The spec of the data that a model was trained on, or None.
    """
    for key in KEYS:
        found, expected = (_value(each or {}, key) for each in (spec, known))
        if found is None or expected is None or found == expected:
            continue
        hint = "; `import_log.py --like` subtracts the same" if key == "offsets" else ""
        raise ValueError(
            f"`{name}` must have the {key.replace('_', ' ')} of the training data, {expected}; got "
            f"{found}{hint}."
        )


def _value(spec, key):
    """Returns what a spec says of a key, None where it says nothing."""
    if key == "offsets" and spec.get("observation_names"):
        return spec.get(key) or {}
    return spec.get(key)
