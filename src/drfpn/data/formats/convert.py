"""Writing a data set in another format."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
from PIL import Image

from drfpn.data.annotation_builder import ObjectLists
from drfpn.data.annotations import Annotations
from drfpn.data.base import Target
from drfpn.data.dataset import fill_sizes
from drfpn.data.formats.coco_writer import CocoWriter
from drfpn.data.formats.layouts import Layout, VocLayout, find_layout
from drfpn.data.formats.voc_writer import VocWriter
from drfpn.data.formats.writer import Splits, Writer
from drfpn.data.formats.yolo_writer import YoloWriter
from drfpn.data.formats.yolo_yaml import SPLITS
from drfpn.data.image_io import image_size
from drfpn.data.masks.rle import encode
from drfpn.data.synthetic.shapes import LENGTHS, ShapesDataset
from drfpn.data.validation.boxes import OnBad, clean
from drfpn.data.validation.image_files import size_problem
from drfpn.data.validation.problems import Progress, Stage, StrictReport, raise_problem
from drfpn.utils.errors import UserError, did_you_mean

FORMATS: dict[str, type[Writer]] = {"coco": CocoWriter, "voc": VocWriter, "yolo": YoloWriter}


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _hardlink(source: Path, target: Path) -> None:
    os.link(source.resolve(), target)


def _symlink(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())


STORING: dict[str, Callable[[Path, Path], None]] = {"copy": _copy, "hardlink": _hardlink, "symlink": _symlink}


@dataclass(frozen=True)
class Converted:
    """What was written, and what the format could not hold."""

    images: dict[str, int]
    """By split."""
    objects: dict[str, int]
    """By split, crowd regions included."""
    lost: tuple[str, ...]
    """One line for each sort of thing that was changed or left out."""


def convert(
    data: str,
    to: str,
    out: Path,
    *,
    images: str = "copy",
    masks: bool = True,
    first: int | None = None,
    on_bad: str = "error",
    stage: Stage | None = None,
) -> Converted:
    """Write all splits of a data set in another format, or in the same one again.

    The new folder is written beside ``out`` under another name, so nothing is left where that fails.

    Args:
        data: As for ``open_dataset``. The images of ``shapes`` are written as PNG.
        to: ``coco``, ``voc`` or ``yolo``.
        out: A folder that does not exist or is empty.
        images: ``copy``, ``hardlink`` (no more space on the same disk) or ``symlink`` (to where they are now).
        masks: Whether segmentations are written, where there are some.
        first: Take only so many images of each split, from the start.
        on_bad: What to do with boxes that cannot be trained on; see ``boxes.clean``.
        stage: Is called for each part of the work and gives what the number of images done is told to.

    Raises:
        UserError: The data has a fault, the format cannot hold it, or ``out`` cannot be written.
    """
    for name, value, known in (("--to", to, FORMATS), ("--images", images, STORING)):
        if value not in known:
            there = ", ".join(known)
            raise UserError(f"{name} is '{value}', expected one of {there}.{did_you_mean(value, known)}", exit_code=2)
    stage = stage or _silent
    if on_bad not in get_args(OnBad):
        raise UserError(f"--on-bad is '{on_bad}', expected 'error', 'skip' or 'fix'.", exit_code=2)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder, expected the name of a new one.")
    if data == "shapes":
        splits, lost = _shapes(first, stage), list[str]()
    else:
        splits, lost = _read(find_layout(data), first, cast(OnBad, on_bad), stage)
    store = _paint if data == "shapes" else STORING[images]
    _require_same_classes(data, splits)
    total, done = sum(map(len, splits.values())), 0
    with _new_folder(out) as folder, stage("writing images") as progress:
        writer = FORMATS[to](folder, splits, masks=masks)
        for split, annotations in splits.items():
            for index in range(len(annotations)):
                source, target = annotations.path(index), folder / writer.image_file(split, index)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if data != "shapes":
                        _require_size(annotations, index)
                    store(source, target)
                writer.add(split, index)
                done += 1
                progress(done, total)
        writer.finish()
    return Converted(
        {split: len(annotations) for split, annotations in splits.items()},
        {split: len(annotations.boxes) for split, annotations in splits.items()},
        (*lost, *writer.lost()),
    )


def _read(layout: Layout, first: int | None, on_bad: OnBad, stage: Stage) -> tuple[Splits, list[str]]:
    """Return all splits, train, val and test before others, and one line for each thing that was lost."""
    splits: Splits = {}
    lines: list[str] = []
    report = StrictReport()
    for split in sorted(layout.splits, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name)):
        with stage(f"reading {split}") as progress:
            annotations = layout.read(split, report, progress)
        assert annotations is not None  # the report raises where there is nothing to return
        if first is not None:
            annotations = annotations.first(first)
        splits[split], more = clean(fill_sizes(annotations), on_bad)
        lines += more
    lines += report.lines()
    if isinstance(layout, VocLayout):
        lines.append("pose, truncated, occluded and parts of VOC's objects are not read")
    return splits, lines


def _shapes(first: int | None, stage: Stage) -> Splits:
    """Return the annotations of ``shapes``, with images named shapes/{split}/{index} that ``_paint`` knows."""
    splits = {}
    for split, length in LENGTHS.items():
        dataset = ShapesDataset(split, length if first is None else min(first, length))
        objects = ObjectLists()
        with stage(f"drawing {split}") as progress:
            for index in range(len(dataset)):
                _add_target(objects, index, dataset[index][1])
                progress(index + 1, len(dataset))
        splits[split] = Annotations(
            root=Path("shapes", split),
            source=Path("shapes"),
            classes=dataset.classes,
            category_ids=np.array(dataset.category_ids, dtype=np.int64),
            image_ids=np.arange(1, len(dataset) + 1),
            file_names=np.array([f"{split}_{index:04d}.png" for index in range(len(dataset))], dtype=np.str_),
            sizes=dataset.sizes(),
            **objects.arrays(len(dataset)),
        )
    return splits


def _add_target(objects: ObjectLists, image: int, target: Target) -> None:
    boxes = target["boxes"].clone()
    boxes[:, 2:] -= boxes[:, :2]
    for box, label, mask in zip(boxes.tolist(), target["labels"].tolist(), target["masks"], strict=True):
        objects.add(image=image, box=box, label=label, area=float(mask.sum()), segmentation=encode(mask.numpy()))


def _paint(source: Path, target: Path) -> None:
    """Draw an image of ``shapes``, shapes/{split}/{split}_{index}.png."""
    split, index = source.parent.name, int(source.stem.rpartition("_")[2])
    image, _ = ShapesDataset(split)[index]
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(target)


def _require_same_classes(data: str, splits: Splits) -> None:
    (first, a), *others = splits.items()
    for split, b in others:
        if a.classes != b.classes:
            odd = sorted(set(a.classes) ^ set(b.classes)) or ["their order"]
            raise UserError(
                f"{data}: the classes of {first} and {split} differ ({', '.join(odd[:5])}), expected the same in all."
            )


def _require_size(annotations: Annotations, index: int) -> None:
    """Fail where an image is missing, damaged, or of another size than its boxes were drawn on."""
    problem = size_problem(annotations, index, image_size(annotations.path(index)))
    if problem is not None:
        raise_problem(problem)


@contextmanager
def _silent(_: str) -> Iterator[Progress]:
    yield lambda done, total: None


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``out`` at the end, or is removed if anything fails."""
    made = [parent for parent in out.parents if not parent.exists()]
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # not empty: others write there too
                parent.rmdir()
        if isinstance(error, OSError):
            raise UserError(f"{out} could not be written ({error}); nothing was left there.") from error
        raise
