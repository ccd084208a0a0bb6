"""Run-length encoding of masks, as COCO writes it without compression."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode_mask(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """Encode a mask (H, W) of 0 and 1: lengths of runs of 0, 1, 0, ... down the columns, left to right."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def decode_mask(encoded: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the mask (H, W) of 0 and 1 that ``encode_mask`` encoded."""
    height, width = encoded["size"]
    counts = encoded["counts"]
    values = np.arange(len(counts), dtype=np.uint8) % 2
    return np.repeat(values, counts).reshape(width, height).T
