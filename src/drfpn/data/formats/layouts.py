"""Detection of the format and folder layout of a data set: COCO, VOC or YOLO."""

from collections.abc import Callable
from pathlib import Path

from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.coco_layouts import find_coco_layout
from drfpn.data.formats.voc_layouts import find_voc_layout
from drfpn.data.formats.yolo_layouts import find_yolo_layout, yolo_layout
from drfpn.data.formats.yolo_yaml import is_yolo_yaml
from drfpn.utils.errors import UserError, did_you_mean

EXPECTED = "'shapes', a folder in COCO or VOC layout, or the YAML file of a YOLO data set"

FINDERS: tuple[Callable[[Path], Layout | None], ...] = (find_coco_layout, find_voc_layout, find_yolo_layout)
"""Tried in this order on a folder."""


def find_layout(data: str) -> Layout:
    """Detect the layout of a folder, or a YOLO data set by its YAML file.

    A folder is tried as COCO's own layout, plain COCO, VOC's, and YOLO's (``data.yaml`` in it), in this order.

    Args:
        data: path of the folder or YAML file.

    Raises:
        UserError: there is no such file or folder, or it has none of these layouts, or the YAML file is invalid.
    """
    root = Path(data)
    if is_yolo_yaml(root) and not root.is_dir():
        return yolo_layout(root)
    if not root.is_dir():
        state = "is a file" if root.is_file() else "does not exist"
        siblings = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        hint = did_you_mean(root.name, [*siblings, "shapes"]) if state == "does not exist" else ""
        raise UserError(f"{data} {state}, expected {EXPECTED}.{hint}")
    for find in FINDERS:
        layout = find(root)
        if layout is not None:
            return layout
    others = [path.name for path in sorted(root.iterdir()) if is_yolo_yaml(path)]
    hint = f" Did you mean '{root / others[0]}'?" if others else ""
    raise UserError(
        f"{data} is neither in COCO nor in VOC nor in YOLO layout, expected annotations/instances_train2017.json, "
        f"annotations/train.json, ImageSets/Main/train.txt or data.yaml in it.{hint}"
    )
