"""Masks as COCO writes them, through hotcoco.

Not through pycocotools: it does not check the RLE that it reads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.utils.errors import UserError

try:
    from hotcoco import mask as coco_mask
except ImportError:  # boxes do without

    class _Missing:
        def __getattr__(self, name: str) -> Any:
            raise UserError("Masks need hotcoco, which cannot be imported: pip install 'hotcoco>=1.3'.")

    coco_mask = _Missing()  # type: ignore[assignment]

Encoded = dict[str, Any]
"""Run-length encoding: ``size`` [H, W], and ``counts`` as a string (compressed) or as a list of lengths."""


def encode(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Encoded:
    """Encode a mask (H, W) as compressed RLE that JSON can hold: ``{"size": [H, W], "counts": str}``."""
    height, width = mask.shape
    return {"size": [height, width], "counts": coco_mask.encode(mask)["counts"].decode("ascii")}


def to_rle(segmentation: Any, height: int, width: int) -> Encoded:
    """Return COCO's segmentation of one object, polygons or either kind of RLE, as one RLE.

    Raises:
        ValueError, TypeError: It is not one that ``masks.find_fault`` accepts.
    """
    if isinstance(segmentation, dict):
        return coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))


def decode(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Draw COCO's segmentation of one object as a mask (H, W) of 0 and 1.

    Raises:
        ValueError, TypeError: It is not one that ``masks.find_fault`` accepts.
    """
    return coco_mask.decode(to_rle(segmentation, height, width))


def area(segmentation: Any, height: int, width: int) -> int:
    """Return the number of pixels in COCO's segmentation of one object.

    Raises:
        ValueError, TypeError: It is not one that ``masks.find_fault`` accepts.
    """
    return int(coco_mask.area(to_rle(segmentation, height, width)))


def box(rle: Encoded) -> list[float]:
    """Return x, y, width and height in pixels of the smallest box around an RLE."""
    return [float(value) for value in np.asarray(coco_mask.toBbox(rle)).reshape(-1)]


def rle_fault(rle: Encoded, height: int, width: int) -> str | None:
    """Return what is wrong with an RLE of an image, if anything is. Draws nothing, so that millions can be asked."""
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        return f"the size of its RLE is {size!r}"
    try:
        coco_mask.area({"size": size, "counts": counts})
    except (TypeError, ValueError) as error:
        return f"its RLE cannot be decoded ({error})"
    try:  # hotcoco fills up what is missing at the end, but refuses what is too long for an image one pixel smaller
        coco_mask.area({"size": [1, height * width - 1], "counts": counts})
    except ValueError:
        return None
    return f"its RLE ends before the last of {height * width} pixels"
