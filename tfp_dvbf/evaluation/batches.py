"""Data sets of any size, a part at a time."""

from tfp_dvbf import data
from tfp_dvbf.data import shards


def check_sequences(name, sequences):
    """Raises ValueError unless `sequences` are `Sequences` or `Shards`."""
    if not isinstance(sequences, (data.Sequences, shards.Shards)):
        kind = type(sequences).__name__
        raise ValueError(f"`{name}` must be Sequences or Shards; got {kind}.")


def batches(sequences, size):
    """Yields `Sequences` of at most `size`, read a file at a time, and how many came before."""
    whole = isinstance(sequences, data.Sequences)
    before = 0
    for part in [sequences] if whole else sequences.parts():
        for start in range(0, len(part), size):
            yield before + start, part[start : start + size]
        before += len(part)
