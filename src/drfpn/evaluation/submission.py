"""The file that COCO's evaluation server takes."""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drfpn.utils.errors import UserError
from drfpn.utils.io import write_atomically


def write_submission(
    folder: Path, results: Sequence[Mapping[str, Any]], *, split: str = "test-dev", name: str = "drfpn"
) -> list[Path]:
    """Write ``detections_{split}2017_{name}_results.json`` in a zip of the same stem.

    The server scores boxes and masks as two submissions of the same name, so detections with masks are written
    twice: without masks into ``bbox/``, and without boxes into ``segm/``.

    Args:
        folder: Where to; made if missing.
        results: Checked detections in COCO's results format.
        split: ``"test-dev"`` for the server.
        name: What to call the detector: letters, digits, ``.``, ``_`` and ``-``.

    Raises:
        UserError: The name would not do in a file's name.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UserError(f"--name is '{name}', expected letters, digits, '.', '_' and '-'.", exit_code=2)
    stem = f"detections_{split}2017_{name}_results"
    masks = any("segmentation" in row for row in results)
    kinds = {"bbox": "segmentation", "segm": "bbox"} if masks else {"": "segmentation"}
    files = []
    for kind, left_out in kinds.items():
        rows = [{key: value for key, value in row.items() if key != left_out} for row in results]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{stem}.json", json.dumps(rows))
        file = folder / kind / f"{stem}.zip"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, packed.getvalue())
        files.append(file)
    return files
