"""What users bring: sequences in memory, in files or from environments, checked and batched."""

from tfp_dvbf.data.files import check_names, content_hash, load, naming, new_folder, save
from tfp_dvbf.data.missing import fill_missing, known_steps, known_steps_tensor, until_last_observed
from tfp_dvbf.data.sequences import ARRAYS, Batch, Sequences, check_sequences, shift_controls

__all__ = [
    "ARRAYS",
    "Batch",
    "Sequences",
    "check_names",
    "check_sequences",
    "content_hash",
    "fill_missing",
    "known_steps",
    "known_steps_tensor",
    "load",
    "naming",
    "new_folder",
    "save",
    "shift_controls",
    "until_last_observed",
]
