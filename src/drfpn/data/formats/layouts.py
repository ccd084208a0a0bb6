"""Detection of the format and folder layout of a data set."""

from collections.abc import Callable
from pathlib import Path

from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.coco_layouts import coco_file_layout, find_coco_layout, find_single_coco_layout
from drfpn.data.formats.cvat_xml import cvat_layout, find_cvat_layout
from drfpn.data.formats.dota import find_dota_layout
from drfpn.data.formats.file_layout import FileLayout
from drfpn.data.formats.image_folder import find_image_folder_layout, image_folder_layout
from drfpn.data.formats.listed_layout import with_lists
from drfpn.data.formats.open_images import find_open_images_layout, open_images_layout
from drfpn.data.formats.traces import describe_traces
from drfpn.data.formats.unlisted_layouts import find_unlisted_layout
from drfpn.data.formats.voc_layouts import find_voc_layout
from drfpn.data.formats.yolo_layouts import find_yolo_layout, yolo_layout
from drfpn.data.formats.yolo_yaml import is_yolo_yaml
from drfpn.utils.errors import UsageError, UserError, did_you_mean

EXPECTED = "'shapes', a folder in COCO or VOC layout, or the YAML file of a YOLO data set"

FINDERS: tuple[Callable[[Path], Layout | None], ...] = (
    find_coco_layout,
    find_voc_layout,
    find_yolo_layout,
    find_cvat_layout,
    find_image_folder_layout,
    find_open_images_layout,
    find_dota_layout,
    find_single_coco_layout,
    find_unlisted_layout,
)
"""Tried in this order on a folder."""

FILES: dict[str, Callable[[Path], Layout]] = {
    ".csv": open_images_layout,
    ".json": coco_file_layout,
    ".jsonl": image_folder_layout,
    ".xml": cvat_layout,
}
"""Layout of a file by its suffix in lower case."""


def find_layout(data: str, images: str | None = None) -> Layout:
    """Detect the layout of a data set.

    Args:
        data: path of a folder, a file of annotations, or a YAML file of YOLO.
        images: folder of the images, for annotations in one file for each split; ``None`` if it is that of the layout.

    Raises:
        UserError: there is no such file or folder, or it has no known layout, or the YAML file is invalid.
        UsageError: ``images`` is no folder, or the layout has other folders of images.
    """
    layout = _detect(data)
    if images is None:
        return with_lists(layout)
    if not isinstance(layout, FileLayout):
        raise UsageError(f"`images` is '{images}', but {data} has images in places of its own, expected no `images`.")
    return with_lists(layout.with_images(Path(images)))


def _detect(data: str) -> Layout:
    """Detect the layout of a folder, by ``FINDERS``, or of a file."""
    root = Path(data)
    if is_yolo_yaml(root) and not root.is_dir():
        return yolo_layout(root)
    if root.is_file() and root.suffix.lower() in FILES:
        return FILES[root.suffix.lower()](root)
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
        f"annotations/train.json, ImageSets/Main/train.txt or data.yaml in it, or what an annotation tool writes "
        f"(docs/data.md).{hint or describe_traces(root)}"
    )
