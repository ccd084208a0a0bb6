"""``convert``: writes a data set in another format."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from drfpn.data.annotation_builder import AnnotationBuilder
from drfpn.data.annotations import Annotations
from drfpn.data.base import Target
from drfpn.data.class_matching import match_classes
from drfpn.data.dataset import CROWD, fill_sizes, require_no_images
from drfpn.data.formats.base_layout import Layout
from drfpn.data.formats.base_writer import DatasetWriter, Splits
from drfpn.data.formats.coco_writer import CocoWriter
from drfpn.data.formats.image_folder_writer import ImageFolderWriter
from drfpn.data.formats.labelme_writer import LabelMeWriter
from drfpn.data.formats.layouts import find_layout
from drfpn.data.formats.listed_layout import ListedLayout
from drfpn.data.formats.voc_layouts import VocLayout
from drfpn.data.formats.voc_writer import VocWriter
from drfpn.data.formats.yolo_layouts import YoloLayout
from drfpn.data.formats.yolo_writer import YoloWriter
from drfpn.data.formats.yolo_yaml import SPLITS
from drfpn.data.image_io import image_size
from drfpn.data.masks.rle import encode
from drfpn.data.progress import ProgressFactory, no_progress
from drfpn.data.synthetic.shapes import LENGTHS, ShapesDataset
from drfpn.data.validation.boxes import sanitize_boxes
from drfpn.data.validation.image_files import image_size_issue
from drfpn.data.validation.issues import OnBad, StrictIssueHandler, check_on_bad, raise_issue
from drfpn.utils.errors import UsageError, UserError, did_you_mean

FORMATS: dict[str, type[DatasetWriter]] = {
    "coco": CocoWriter,
    "voc": VocWriter,
    "yolo": YoloWriter,
    "labelme": LabelMeWriter,
    "imagefolder": ImageFolderWriter,
}


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _hardlink(source: Path, target: Path) -> None:
    os.link(source.resolve(), target)


def _symlink(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())


TRANSFERS: dict[str, Callable[[Path, Path], None]] = {"copy": _copy, "hardlink": _hardlink, "symlink": _symlink}


@dataclass(frozen=True)
class ConversionResult:
    """Number of images and objects that were written, and what the format could not represent."""

    images: dict[str, int]
    """By split."""
    objects: dict[str, int]
    """By split, crowds included."""
    lost: tuple[str, ...]
    """One line for each kind of change or loss."""


def convert(
    data: str,
    to: str,
    out: Path,
    *,
    images: str | None = None,
    transfer: str = "copy",
    crowd: str = "ignore",
    masks: bool = True,
    max_images: int | None = None,
    on_bad: str = "error",
    progress_bar: ProgressFactory | None = None,
) -> ConversionResult:
    """Write all splits of a data set in another format, or in the same one again.

    The new folder is written beside ``out`` under a temporary name, so nothing is left if it fails.

    Args:
        data: as for ``open_dataset``. The images of ``shapes`` are written as PNG.
        to: ``coco``, ``voc``, ``yolo``, ``labelme`` or ``imagefolder`` (Hugging Face's).
        out: a folder that does not exist or is empty.
        images: folder of the images, as for ``open_dataset``. The values of ``transfer`` are accepted too, which was
            called so before.
        transfer: how images are written: ``copy``, ``hardlink`` (needs no space, on the same disk) or ``symlink`` (to
            the original files).
        crowd: ``ignore`` writes crowds as such, in formats that have them; ``object`` writes them as objects.
        masks: write the segmentations, if there are any.
        max_images: write only the first ``max_images`` images of each split.
        on_bad: what to do with invalid boxes; see ``boxes.sanitize_boxes``.
        progress_bar: called with the title of each stage; yields the callback for its progress.

    Raises:
        UsageError: ``to``, ``images``, ``transfer``, ``crowd`` or ``on_bad`` is invalid.
        UserError: the data has an issue, the format cannot represent it, or ``out`` cannot be written.
    """
    if images is not None and images in TRANSFERS and transfer == "copy":
        transfer = images
        images = None
    for name, value, known in (("to", to, FORMATS), ("transfer", transfer, TRANSFERS), ("crowd", crowd, CROWD)):
        if value not in known:
            hint = did_you_mean(value, known)
            raise UsageError(f"`{name}` is '{value}', expected one of {', '.join(known)}.{hint}")
    policy = check_on_bad(on_bad)
    if data == "shapes":
        require_no_images(images)
    progress_bar = progress_bar or no_progress
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder, expected the name of a new one.")
    if data == "shapes":
        splits, lost = _shapes(max_images, progress_bar), list[str]()
    else:
        splits, lost = _read(find_layout(data, images), max_images, policy, progress_bar)
        if crowd == "object":
            splits = {name: replace(split, crowd=np.zeros_like(split.crowd)) for name, split in splits.items()}
    write_image = _draw_shapes_image if data == "shapes" else TRANSFERS[transfer]
    splits = _with_same_classes(data, splits)
    total, done = sum(map(len, splits.values())), 0
    with _new_folder(out) as folder, progress_bar("writing images") as progress:
        writer = FORMATS[to](folder, splits, masks=masks)
        for split, annotations in splits.items():
            for index in range(len(annotations)):
                source, target = annotations.path(index), folder / writer.image_file(split, index)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if data != "shapes":
                        _require_size(annotations, index)
                    write_image(source, target)
                writer.add(split, index)
                done += 1
                progress(done, total)
        writer.finish()
    return ConversionResult(
        {split: len(annotations) for split, annotations in splits.items()},
        {split: len(annotations.boxes) for split, annotations in splits.items()},
        (*lost, *writer.lost()),
    )


def _read(
    layout: Layout, max_images: int | None, on_bad: OnBad, progress_bar: ProgressFactory
) -> tuple[Splits, list[str]]:
    """Return all splits (train, val and test before others), and one line for each kind of loss."""
    splits: Splits = {}
    lost: list[str] = []
    handler = StrictIssueHandler()
    for split in sorted(layout.splits, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name)):
        with progress_bar(f"reading {split}") as progress:
            annotations = layout.read(split, handler, progress)
        assert annotations is not None  # else the handler has raised
        if max_images is not None:
            annotations = annotations.first(max_images)
        splits[split], changes = sanitize_boxes(fill_sizes(annotations), on_bad)
        lost += changes
    lost += handler.messages()
    return splits, lost + _unread(layout.base if isinstance(layout, ListedLayout) else layout)


def _unread(layout: Layout) -> list[str]:
    """Return a line about what the reader of a format leaves out."""
    if isinstance(layout, VocLayout):
        return ["pose, truncated, occluded and parts of VOC's objects are not read"]
    if isinstance(layout, YoloLayout) and layout.config.keypoints is not None:
        return ["keypoints are not read"]
    return []


def _shapes(max_images: int | None, progress_bar: ProgressFactory) -> Splits:
    """Return the annotations of ``shapes``, with paths shapes/{split}/{file name} for ``_draw_shapes_image``."""
    splits = {}
    for split, length in LENGTHS.items():
        dataset = ShapesDataset(split, length if max_images is None else min(max_images, length))
        objects = AnnotationBuilder()
        with progress_bar(f"drawing {split}") as progress:
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


def _add_target(objects: AnnotationBuilder, image_index: int, target: Target) -> None:
    boxes = target["boxes"].clone()
    boxes[:, 2:] -= boxes[:, :2]
    for box, label, mask in zip(boxes.tolist(), target["labels"].tolist(), target["masks"], strict=True):
        rle = encode(mask.numpy())
        objects.add(image_index=image_index, box=box, label=label, area=float(mask.sum()), segmentation=rle)


def _draw_shapes_image(source: Path, target: Path) -> None:
    """Draw the image of ``shapes`` called shapes/{split}/{split}_{index}.png."""
    split, index = source.parent.name, int(source.stem.rpartition("_")[2])
    image, _ = ShapesDataset(split)[index]
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(target)


def _with_same_classes(data: str, splits: Splits) -> Splits:
    """Return the splits with the classes of the first one, matched by name."""
    first, *others = splits
    classes = splits[first].classes
    matched = {first: splits[first]}
    for split in others:
        try:
            matched[split] = match_classes(splits[split], classes)
        except UserError as error:
            differing = sorted(set(classes) ^ set(splits[split].classes))
            names = ", ".join(differing[:5]) or "one name for several"
            raise UserError(
                f"{data}: the classes of {first} and {split} differ ({names}), expected the same in all."
            ) from error
    return matched


def _require_size(annotations: Annotations, index: int) -> None:
    """Raise if an image is missing, damaged, or not of the annotated size."""
    issue = image_size_issue(annotations, index, image_size(annotations.path(index)))
    if issue is not None:
        raise_issue(issue)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to ``out`` at the end, or removed if anything fails."""
    created = [parent for parent in out.parents if not parent.exists()]
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        for parent in created:
            with suppress(OSError):  # not empty: other processes write there too
                parent.rmdir()
        if isinstance(error, UnicodeEncodeError):
            text = error.object[:80].encode("utf-8", "backslashreplace").decode()
            raise UserError(f"{text!r} is not UTF-8, expected a name that the format can hold.") from error
        if isinstance(error, OSError):
            raise UserError(f"{out} could not be written ({error}); nothing was left there.") from error
        raise
