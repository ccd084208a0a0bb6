"""Reader of COCO's instances format: JSON with images, annotations and categories."""

import os
from collections.abc import Mapping
from pathlib import Path

from drfpn.data.annotations import Annotations
from drfpn.data.formats.coco_records import CocoRecords
from drfpn.data.formats.coco_values import some
from drfpn.data.formats.json_stream import Consumer, NotAnObjectError, read_lists
from drfpn.data.progress import ProgressCallback
from drfpn.data.validation.issues import Issue, IssueHandler, raise_issue
from drfpn.utils.errors import UserError


def read_coco(json_file: str | os.PathLike[str], image_root: str | os.PathLike[str]) -> Annotations:
    """Read a COCO instances file.

    Category ids may have gaps and start anywhere; they become labels 1..K in the order of the ids, and categories of
    one name become one class. A missing ``area`` is width times height; one that cannot be the object's is replaced by
    that of its mask or box. A missing ``iscrowd`` is 0, and annotations whose id is missing or below 1 get ids after
    the largest one (COCO's evaluation takes id 0 for "matched nothing"). Ids may be strings of digits. A file name
    that does not exist is searched by ``ImageFinder``. Boxes are not validated here: see ``boxes.sanitize_boxes``.

    Args:
        json_file: the annotations.
        image_root: folder that the file names in it are relative to.

    Raises:
        UserError: the file is missing or is not COCO, or a record in it contradicts the others.
    """
    annotations = parse_coco(Path(json_file), Path(image_root), raise_issue)
    assert annotations is not None  # else raise_issue has raised
    return annotations


def parse_coco(
    json_file: Path,
    image_root: Path,
    on_issue: IssueHandler,
    progress: ProgressCallback | None = None,
    *,
    segmentations: bool = True,
) -> Annotations | None:
    """Read the valid records of a COCO instances file and report the others; ``None`` if nothing is valid.

    Args:
        json_file: the annotations.
        image_root: folder of the images.
        on_issue: called with each issue.
        progress: called with the MiB read so far and the total.
        segmentations: keep the segmentations.
    """
    records = CocoRecords(json_file, on_issue, segmentations=segmentations)
    consumers = {
        "images": records.add_image,
        "annotations": records.add_annotation,
        "categories": records.add_category,
    }
    if not _read(json_file, consumers, on_issue, progress):
        return None
    return records.annotations(image_root)


def _read(
    json_file: Path, consumers: Mapping[str, Consumer], on_issue: IssueHandler, progress: ProgressCallback | None
) -> bool:
    """Pass the records of a file to their consumers; return false after an issue of the whole file."""
    source = str(json_file)
    if not json_file.is_file():
        on_issue(Issue("annotations-missing", source, "there is no such file", "COCO annotations in JSON"))
        return False
    try:
        types = read_lists(json_file, consumers, progress)
    except NotAnObjectError as error:
        on_issue(Issue("not-coco", source, str(error), "an object with images, annotations and categories"))
        return False
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        on_issue(Issue("not-coco", source, f"it is not JSON ({error})", "COCO annotations in JSON"))
        return False
    if json_file.name.startswith("image_info_"):
        types.setdefault("annotations", "list")  # of images whose annotations are not public
    missing = [key for key in consumers if types.get(key) != "list"]
    if missing:
        observed = f"it has no list '{missing[0]}' (its keys are {some(types)})"
        on_issue(Issue("not-coco", source, observed, "COCO's lists images, annotations and categories"))
    return not missing
