"""Export to an archive of ``torch.export`` (.pt2), which runs in PyTorch without this library."""

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from drfpn.detectors.base import DetectionModel
from drfpn.export.program import export_program
from drfpn.utils.io import write_atomically

METADATA_FILE = "drfpn.json"
"""Name of the extra file in the archive that holds the metadata as a JSON object."""


def to_pt2(model: DetectionModel, file: Path, metadata: Mapping[str, str]) -> None:
    """Export a detector to a file for ``torch.export.load``.

    Input and outputs are those of :class:`drfpn.export.EndToEndDetector`.

    Args:
        model: detector of this library, on the device that the archive is for.
        file: where to write, .pt2.
        metadata: of :func:`drfpn.export.export_metadata`.

    Raises:
        UserError: the file cannot be written.
    """
    archive = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of torch
        torch.export.save(export_program(model), archive, extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    write_atomically(file, archive.getvalue())
