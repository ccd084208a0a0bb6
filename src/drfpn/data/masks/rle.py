"""COCO's run-length encoding (RLE) of masks: encoding, decoding, area, box.

Uses hotcoco, since pycocotools does not check the RLE that it reads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.utils.errors import UserError

try:
    from hotcoco import mask as coco_mask
except ImportError:  # not needed for boxes

    class _Missing:
        def __getattr__(self, name: str) -> Any:
            raise UserError("Masks need hotcoco, which cannot be imported: pip install 'hotcoco>=1.3'.")

    coco_mask = _Missing()  # type: ignore[assignment]

RLE = dict[str, Any]
"""Run-length encoding: ``size`` [H, W], and ``counts`` as a string (compressed) or as a list of lengths."""


def encode(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> RLE:
    """Encode a mask (H, W) as compressed RLE in JSON types: ``{"size": [H, W], "counts": str}``."""
    height, width = mask.shape
    return {"size": [height, width], "counts": coco_mask.encode(mask)["counts"].decode("ascii")}


def to_rle(segmentation: Any, height: int, width: int) -> RLE:
    """Return the segmentation of one object, polygons or RLE (compressed or not), as one RLE.

    Args:
        segmentation: a segmentation in COCO's format.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Raises:
        ValueError, TypeError: the segmentation is not valid; see ``validation.masks.find_segmentation_fault``.
    """
    if isinstance(segmentation, dict):
        return coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))


def decode(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Rasterize the segmentation of one object to a mask (H, W) of 0 and 1.

    Args:
        segmentation: a segmentation in COCO's format.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Raises:
        ValueError, TypeError: the segmentation is not valid; see ``validation.masks.find_segmentation_fault``.
    """
    return coco_mask.decode(to_rle(segmentation, height, width))


def area(segmentation: Any, height: int, width: int) -> int:
    """Return the number of pixels in the segmentation of one object.

    Args:
        segmentation: a segmentation in COCO's format.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Raises:
        ValueError, TypeError: the segmentation is not valid; see ``validation.masks.find_segmentation_fault``.
    """
    return int(coco_mask.area(to_rle(segmentation, height, width)))


def rle_to_box(rle: RLE) -> list[float]:
    """Return x, y, width and height in pixels of the smallest box around an RLE."""
    return [float(value) for value in np.asarray(coco_mask.toBbox(rle)).reshape(-1)]


def find_rle_fault(rle: RLE, height: int, width: int) -> str | None:
    """Return why an RLE is invalid, or ``None``. Does not decode it, so that millions can be checked.

    Args:
        rle: RLE, compressed or not.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        return f"the size of its RLE is {size!r}"
    try:
        coco_mask.area({"size": size, "counts": counts})
    except (TypeError, ValueError) as error:
        return f"its RLE cannot be decoded ({error})"
    try:  # hotcoco pads counts that are too short, but rejects those too long for an image one pixel smaller
        coco_mask.area({"size": [1, height * width - 1], "counts": counts})
    except ValueError:
        return None
    return f"its RLE ends before the last of {height * width} pixels"
