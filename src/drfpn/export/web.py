"""Export to a folder of static files: a page that detects objects in the browser."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from drfpn.detectors.base import DetectionModel
from drfpn.export.onnx import to_onnx
from drfpn.export.program import MAX_IMAGE_SIDE, MIN_IMAGE_SIDE
from drfpn.utils.errors import UserError
from drfpn.utils.io import write_atomically, write_json

WEB_MODEL = "detector.onnx"
"""Name of the ONNX file in the folder."""
RUNTIME_VERSION = "1.30.0"
"""Version of the npm package onnxruntime-web."""
_FILES = Path(__file__).with_name("web")
RUNTIME_ARCHIVE = _FILES / f"onnxruntime-web-{RUNTIME_VERSION}.tar.xz"
"""Files of the npm package, unchanged except that .mjs is named .js, and its licenses."""
_DESCRIPTION = "detector.json"
_PAGE = ("style.css", "detector.js", "page.js", "index.html")


def to_web(model: DetectionModel, folder: Path, metadata: Mapping[str, str], *, grid_sample: bool = True) -> None:
    """Export a detector to a folder that any static web server serves, for use without a network.

    It holds ``index.html`` with its scripts and style, the ONNX file, ``detector.json`` with the class names, and
    onnxruntime-web in ``ort``.

    Args:
        model: detector of this library, on the CPU.
        folder: where to write; it is made if need be.
        metadata: of :func:`drfpn.export.export_metadata`.
        grid_sample: as of :func:`drfpn.export.to_onnx`.

    Raises:
        UserError: the packages onnx and onnxscript are not installed, the folder has files of something else, or it
            cannot be written.
    """
    require_web_folder(folder)
    try:
        (folder / "ort").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} could not be made ({error.strerror}).") from error
    write_json(folder / _DESCRIPTION, _describe(metadata))
    to_onnx(model, folder / WEB_MODEL, metadata, grid_sample=grid_sample)
    with tarfile.open(RUNTIME_ARCHIVE) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            write_atomically(folder / "ort" / member.name, stream.read())
    for name in _PAGE:
        write_atomically(folder / name, (_FILES / name).read_bytes())


def require_web_folder(folder: Path) -> None:
    """Check that a folder can be exported to: a new or empty one, or one that was exported to before.

    Args:
        folder: the folder, which need not exist.

    Raises:
        UserError: it is a file, or has files of something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file, expected a new folder for the page.")
    if any(folder.iterdir()) and not _was_exported_to(folder):
        raise UserError(f"{folder} has files of something else; name a new folder for the page by `out`.")


def _was_exported_to(folder: Path) -> bool:
    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and description.get("library") == "drfpn"


def _describe(metadata: Mapping[str, str]) -> dict[str, object]:
    """Return the content of ``detector.json``, which the page reads."""
    return {
        "library": metadata["library"],
        "version": metadata["version"],
        "model": metadata["model"],
        "file": WEB_MODEL,
        "classes": json.loads(metadata["classes"]),
        "score_threshold": float(metadata["score_threshold"]),
        "min_side": MIN_IMAGE_SIDE,
        "max_side": MAX_IMAGE_SIDE,
        "runtime": f"onnxruntime-web {RUNTIME_VERSION}",
    }
