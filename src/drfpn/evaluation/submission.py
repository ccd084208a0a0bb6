"""Zip archives for COCO's evaluation server."""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drfpn.utils.errors import UsageError
from drfpn.utils.io import write_atomically


def write_submission(
    folder: Path, results: Sequence[Mapping[str, Any]], *, split: str = "test-dev", name: str = "drfpn"
) -> list[Path]:
    """Write ``detections_{split}2017_{name}_results.json`` in a zip of the same stem.

    The server evaluates boxes and masks as two submissions of the same name, so detections with masks are written
    twice: without masks into ``bbox/``, and without boxes into ``segm/``.

    Args:
        folder: folder of the archives; created if missing.
        results: checked detections in COCO's results format.
        split: ``"test-dev"`` for the server.
        name: name of the detector: letters, digits, ``.``, ``_`` and ``-``.

    Returns:
        The files.

    Raises:
        UsageError: ``name`` has other characters.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UsageError(f"`name` is '{name}', expected letters, digits, '.', '_' and '-'.")
    stem = f"detections_{split}2017_{name}_results"
    masks = any("segmentation" in row for row in results)
    removed_keys = {"bbox": "segmentation", "segm": "bbox"} if masks else {"": "segmentation"}
    files = []
    for subfolder, removed in removed_keys.items():
        rows = [{key: value for key, value in row.items() if key != removed} for row in results]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{stem}.json", json.dumps(rows))
        file = folder / subfolder / f"{stem}.zip"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, packed.getvalue())
        files.append(file)
    return files
