"""Reader and checks of COCO results files, from whatever tool."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from drfpn.data.masks.rle import find_rle_fault, rle_to_box, to_rle
from drfpn.evaluation.coco import Result
from drfpn.utils.errors import UserError


def read_results(file: Path) -> list[Any]:
    """Read a COCO results file without checking its entries.

    Args:
        file: the file.

    Raises:
        UserError: the file is missing, is not JSON, or holds no list.
    """
    try:
        results = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"There is no file {file}.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{file} is not JSON that can be read ({type(error).__name__}).") from error
    if isinstance(results, dict):
        lists = [key for key, value in results.items() if isinstance(value, list)]
        hint = f": its '{lists[0]}' may be that list" if lists else ""
        raise UserError(f"{file} must hold a list of detections as COCO's results do, not a dict{hint}.")
    if not isinstance(results, list):
        raise UserError(f"{file} must hold a list of detections as COCO's results do, not {type(results).__name__}.")
    return results


def check_results(file: Path, results: list[Any], ground_truth: Mapping[str, Any], *, masks: bool) -> list[Result]:
    """Check detections and convert ids to integers and scores to floats; keys that are not COCO's are removed.

    A detection with a mask but no box gets the bounding box of its mask.

    Args:
        file: name of the results in messages.
        results: entries of the file.
        ground_truth: a COCO dict with the images and categories.
        masks: whether every detection must have a mask; else masks are removed.

    Raises:
        UserError: an entry has an unknown image or category, a value that is not finite, or a mask of another size.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in ground_truth["images"]}
    categories = {category["id"] for category in ground_truth["categories"]}
    merged = {key: category["id"] for category in ground_truth["categories"] for key in category.get("merged_ids", ())}
    names = _image_names(ground_truth)
    hint_at_text = partial(_hint_at_text, results, names, set(sizes))
    checked = [_checked(file, i, row, hint_at_text) for i, row in enumerate(results)]
    for row in checked:
        row["category_id"] = merged.get(row["category_id"], row["category_id"])
    for key, noun, known in (("image_id", "image", set(sizes)), ("category_id", "category", categories)):
        unknown = [i for i, row in enumerate(checked) if row[key] not in known]
        if unknown:
            i = unknown[0]
            ids = len({checked[i][key] for i in unknown})
            about = "about image" if key == "image_id" else "of category"
            origin = "split" if key == "image_id" else "data"
            hint = _hint_at_numbering({row[key] for row in checked}, known, noun)
            if not hint and key == "image_id" and {str(checked[i][key]) for i in unknown} <= names.keys():
                hint = " They are the numbers in the names of files, not the ids of the annotations."
            raise UserError(
                f"{file}: entry {i} is {about} {checked[i][key]}, which this {origin} does not have; so are "
                f"{len(unknown)} of {len(checked)} entries, with {ids} unknown ids of {noun}.{hint}"
            )
    for i, row in enumerate(checked):
        if not masks:
            row.pop("segmentation", None)
            continue
        height, width = sizes[row["image_id"]]
        mask = row.get("segmentation")
        fault = find_rle_fault(mask, height, width) if isinstance(mask, dict) else f"its segmentation is {mask!r:.60}"
        if fault is not None:
            raise UserError(f"{file}: entry {i} must have RLE of size [{height}, {width}] as mask, but {fault}.")
        if "bbox" not in row:
            assert isinstance(mask, dict)
            row["bbox"] = rle_to_box(to_rle(mask, height, width) if isinstance(mask["counts"], list) else mask)
    return checked


def _image_names(ground_truth: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of images by what other tools write instead: file name, its stem, and the number in it."""
    ids: dict[str, int] = {}
    for image in ground_truth["images"]:
        name = PurePath(str(image["file_name"]))
        number = str(int(name.stem)) if name.stem.isdecimal() else name.stem
        ids |= dict.fromkeys((str(name), name.name, name.stem, number), image["id"])
    return ids


def _hint_at_numbering(used: set[int], known: set[int], noun: str) -> str:
    """Return a sentence about what unknown ids seem to be, or an empty string."""
    count = len(known)
    for start in (0, 1):
        if used <= set(range(start, start + count)):
            ids = sorted(known)
            return (
                f" They seem to be numbered from {start}, the ids of the annotations are {ids[0]}"
                f"{f' to {ids[-1]}' if count > 1 else ''}: id {ids[0]} is the first {noun}, not {start}."
            )
    return ""


def _checked(file: Path, i: int, row: Any, hint_at_text: Callable[[Any], str]) -> Result:
    if not isinstance(row, dict) or not {"image_id", "category_id", "score"} <= row.keys():
        raise UserError(f"{file}: entry {i} must have image_id, category_id, bbox and score.")
    keys = ("bbox", "segmentation")  # some tools write both, and null or an empty list for the one they lack
    row = {key: value for key, value in row.items() if key not in keys or value or not any(map(row.get, keys))}
    if not row.get("segmentation"):
        row.pop("segmentation", None)
    if "bbox" not in row and "segmentation" not in row:
        raise UserError(
            f"{file}: entry {i} must have image_id, category_id, bbox and score, or a mask instead of bbox."
        )
    result: Result = {}
    for key in ("image_id", "category_id"):
        value = row[key]
        if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
            hint = hint_at_text(value) if key == "image_id" else ""
            raise UserError(f"{file}: the {key} of entry {i} must be a whole number, not {value!r:.60}{hint}.")
        result[key] = int(value)
    if "bbox" in row:
        numbers = row["bbox"]
        if not isinstance(numbers, list) or len(numbers) != 4 or not all(map(_is_finite, numbers)):
            raise UserError(
                f"{file}: the bbox of entry {i} must be 4 numbers (x, y, width, height), not {numbers!r:.80}."
            )
        result["bbox"] = [float(value) for value in numbers]
    if not _is_finite(row["score"]):
        raise UserError(f"{file}: the score of entry {i} must be a finite number, not {row['score']!r:.60}.")
    result["score"] = float(row["score"])
    if "segmentation" in row:
        result["segmentation"] = row["segmentation"]
    return result


def _hint_at_text(results: list[Any], names: Mapping[str, int], known: set[int], value: Any) -> str:
    """Return what an image id that is text seems to be, judged by those of all entries, or an empty string."""
    if not isinstance(value, str):
        return ""
    texts = {row["image_id"] for row in results if isinstance(row, dict) and isinstance(row.get("image_id"), str)}
    as_id, as_name = _to_id(value), names.get(value)
    if all(_to_id(text) in known for text in texts):
        if as_name in (None, as_id) or not texts <= names.keys():
            return f": write {as_id}"
        return f": write {as_id} if it is the id, {as_name} if it is the name of a file"
    if as_name is not None:
        return f": it is the name of a file, the id of that image is {as_name}"
    return "" if as_id is None else f": write {as_id}"


def _to_id(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
