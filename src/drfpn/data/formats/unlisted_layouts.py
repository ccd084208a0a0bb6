"""Data sets without a file that names their images: a file of annotations for each image, in one of three formats."""

from collections.abc import Callable
from pathlib import Path

from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.labelme_layouts import find_labelme_layout
from drfpn.data.formats.voc_layouts import find_unlisted_voc_layout
from drfpn.data.formats.yolo_layouts import find_yolo_folder_layout
from drfpn.utils.errors import UserError

_FINDERS: dict[str, Callable[[Path], Layout | None]] = {
    "VOC's XML": find_unlisted_voc_layout,
    "LabelMe's JSON": find_labelme_layout,
    "YOLO's text": find_yolo_folder_layout,
}


def find_unlisted_layout(root: Path) -> Layout | None:
    """Return the layout of a folder with VOC's, LabelMe's or YOLO's files and without lists; ``None`` if it is none.

    Where images are annotated in several formats, as by tools that write two, the first that annotates all of them is
    taken.

    Args:
        root: the folder.

    Raises:
        UserError: some images are annotated in one format and some in another one.
    """
    layouts = {name: layout for name, find in _FINDERS.items() if (layout := find(root)) is not None}
    if len(layouts) < 2:
        return next(iter(layouts.values()), None)
    stems = {name: {file.stem for split in layout.splits for file in layout.label_files(split)}
             for name, layout in layouts.items()}  # fmt: skip
    everything = set().union(*stems.values())
    for name, layout in layouts.items():
        if stems[name] == everything:
            return layout
    counts = " and ".join(f"{len(annotated)} files of {name}" for name, annotated in stems.items())
    raise UserError(f"{root} holds {counts}, which annotate different images, expected one format for all.")
