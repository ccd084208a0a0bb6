from typing import Any

import numpy as np
import pytest
from PIL import Image

from drfpn.data import open_dataset
from drfpn.data.validation.check import inspect_dataset


@pytest.fixture
def odd(folder: Any, coco_dict: Any) -> str:
    """A data set with a dark 16-bit image and one of two pages."""
    data = folder.coco(coco_dict)
    pages = [Image.new("RGB", (30, 20), color) for color in ("red", "blue")]
    pages[0].save(folder.root / "train2017/30.png", save_all=True, append_images=pages[1:])
    Image.fromarray(np.full((20, 30), 4000, dtype=np.uint16)).save(folder.root / "train2017/7.png")
    return data


def test_pages_and_dark_images_are_warnings(odd: str) -> None:
    report = inspect_dataset(odd, ["train"])
    issues = {issue.kind: issue for issue in report.issues}
    for kind, words in {
        "several-pages": "30.png: it has 2 pages or frames, of which only the first is used",
        "dark-16-bit": "7.png: its 16-bit values are at most 4000 of 65535",
    }.items():
        assert issues[kind].severity == "warning"
        assert issues[kind].count == 1
        assert words in issues[kind].examples[0]
    assert report.flagged == {"train": {0, 1}}


def test_training_warns_of_the_first_images(odd: str) -> None:
    messages: list[str] = []
    open_dataset(odd, warn=messages.append)
    assert any("7.png: its 16-bit values are at most 4000" in message for message in messages)
    assert any("30.png: it has 2 pages" in message for message in messages)
