"""A whole detector as an archive of ``torch.export``: for PyTorch without this library."""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from drfpn.export.program import export_program
from drfpn.utils.io import write_atomically

METADATA = "drfpn.json"
"""Name of the extra file in the archive: what travels with it."""


def to_archive(model: nn.Module, file: Path, metadata: Mapping[str, str]) -> None:
    """Write a detector as ``torch.export.load`` reads it (.pt2): an image (3, H, W) of bytes in, detections out.

    Args:
        model: a detector of this library, on the device that the archive is for.
        file: where to.
        metadata: text that travels in the file, as a JSON object.

    Raises:
        UserError: the file cannot be written.
    """
    archive = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on functions of its own
        torch.export.save(export_program(model), archive, extra_files={METADATA: json.dumps(dict(metadata))})
    write_atomically(file, archive.getvalue())
