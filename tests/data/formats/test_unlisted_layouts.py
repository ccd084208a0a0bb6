from typing import Any

import pytest

from drfpn.data.formats.labelme_layouts import LabelMeLayout
from drfpn.data.formats.layouts import find_layout
from drfpn.data.formats.unlisted_layouts import find_unlisted_layout
from drfpn.data.formats.voc_layouts import VocLayout
from drfpn.data.formats.yolo_layouts import YoloLayout
from drfpn.utils.errors import UserError


def write(folder: Any, stem: str, kind: str) -> None:
    folder.image(f"{stem}.jpg")
    if kind == "xml":
        folder.json(f"{stem}.xml", f"<annotation>{folder.voc_object('cat', (2, 3, 11, 20))}</annotation>")
    elif kind == "json":
        shape = {"label": "cat", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}
        folder.json(f"{stem}.json", {"shapes": [shape], "imagePath": f"{stem}.jpg"})
    else:
        folder.json(f"{stem}.txt", "0 0.5 0.5 0.5 0.5\n")
        folder.json("classes.txt", "cat\n")


@pytest.mark.parametrize(("kind", "layout"), [("xml", VocLayout), ("json", LabelMeLayout), ("txt", YoloLayout)])
def test_the_format_is_told_by_the_files(folder: Any, kind: str, layout: type) -> None:
    write(folder, "a", kind)
    assert isinstance(find_layout(str(folder.root)), layout)


def test_of_several_formats_the_one_that_annotates_all_images_is_taken(folder: Any) -> None:
    for stem in "ab":
        write(folder, stem, "xml")
        write(folder, stem, "txt")
    assert isinstance(find_unlisted_layout(folder.root), VocLayout)
    write(folder, "c", "txt")
    assert isinstance(find_unlisted_layout(folder.root), YoloLayout)


def test_images_annotated_in_different_formats_are_refused(folder: Any) -> None:
    write(folder, "a", "xml")
    write(folder, "b", "txt")  # as if the format of labelImg had been switched
    with pytest.raises(UserError, match=r"1 files of VOC's XML and 1 files of YOLO's text, which annotate different"):
        find_layout(str(folder.root))


def test_a_folder_of_images_is_no_data_set(folder: Any) -> None:
    folder.image("a.jpg")
    assert find_unlisted_layout(folder.root) is None
