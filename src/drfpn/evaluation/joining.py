"""Joining the results of ``drfpn predict`` to a data set by the names of files and classes, since ids differ."""

import json
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drfpn.data import DetectionDataset
from drfpn.utils.errors import UserError, did_you_mean

_COMPANIONS = {"results": "categories", "results-compare": "categories-compare"}
"""Stem of a results file of ``drfpn predict`` -> stem of the file with its categories."""
_IMAGE_KEYS = {"id", "file_name", "height", "width"}
_SAME_PATH = 1_000
"""Number of equal parts that stands for the same path."""


def join_by_name(
    file: Path, results: list[Any], dataset: DetectionDataset, split: str, warn: Callable[[str], None]
) -> list[Any]:
    """Replace the image ids and category ids of ``drfpn predict`` by those of a data set.

    Images are joined by the paths in ``images.json`` beside the results, classes by the names in ``categories.json``.
    An image has the same path, or else the same name and the most parts of the path before it in common. Results
    without such files, or under another name, are returned as they are.

    Args:
        file: the results file.
        results: its entries, not checked.
        dataset: the data set.
        split: name of the split, for messages.
        warn: called with a sentence about images and classes that only one side has.

    Returns:
        The entries of images and classes of the data set.

    Raises:
        UserError: no image or class is joined, one is joined to several, a class has nearly the name of another one,
            or an image has another size.
    """
    companion = _COMPANIONS.get(file.stem)
    if companion is None:
        return results
    images = _read_records(file.with_name("images.json"), _IMAGE_KEYS)
    categories = _read_records(file.with_name(f"{companion}.json"), {"id", "name"})
    if images is not None:
        image_ids = _join_images(file.with_name("images.json"), images, dataset, split, warn)
        results = _replace_ids(file, results, "image_id", image_ids)
    if categories is not None:
        used = {row["category_id"] for row in results if isinstance(row, dict) and _is_id(row.get("category_id"))}
        category_ids = _join_categories(file.with_name(f"{companion}.json"), categories, used, dataset, warn)
        results = _replace_ids(file, results, "category_id", category_ids)
    return results


def is_joined_by_name(file: Path) -> bool:
    """Return whether :func:`join_by_name` would replace the image ids of a results file, which need not exist.

    Args:
        file: the results file.
    """
    return file.stem in _COMPANIONS and _read_records(file.with_name("images.json"), _IMAGE_KEYS) is not None


def _read_records(file: Path, keys: set[str]) -> list[dict[str, Any]] | None:
    """Return the entries of a file beside the results; ``None`` if there is none or it is of another kind."""
    try:
        records = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(records, list) or not all(isinstance(row, dict) and keys <= row.keys() for row in records):
        return None
    return records


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _replace_ids(file: Path, results: list[Any], key: str, ids: Mapping[int, int | None]) -> list[Any]:
    """Return the entries with other ids, without those whose id has no counterpart."""
    replaced = []
    for i, row in enumerate(results):
        if not isinstance(row, dict) or not _is_id(row.get(key)):
            replaced.append(row)  # its error is that of other results
        elif row[key] not in ids:
            source = "images.json" if key == "image_id" else "categories.json"
            raise UserError(f"{file}: entry {i} has the {key} {row[key]}, which {source} beside it does not have.")
        elif (new := ids[row[key]]) is not None:
            replaced.append({**row, key: new})
    return replaced


def _join_images(
    file: Path,
    images: Sequence[Mapping[str, Any]],
    dataset: DetectionDataset,
    split: str,
    warn: Callable[[str], None],
) -> dict[int, int | None]:
    """Return the id in the data set of each predicted image; ``None`` for those of other splits and for videos."""
    names = [dataset.name(index) for index in range(len(dataset))]
    matches = match_paths([None if "frame" in image else str(image["file_name"]) for image in images], names)
    joined = [(row, index) for row, index in zip(images, matches, strict=True) if index is not None]
    if images and not joined:
        raise UserError(
            f"{file} has no image of the split '{split}': it has {images[0]['file_name']} and others, the split has "
            f"{names[0] if names else 'none'}."
        )
    sizes = dataset.sizes()
    for row, index in joined:
        height, width = sizes[index].tolist()
        if (row["height"], row["width"]) != (height, width):
            raise UserError(
                f"{file}: {row['file_name']} has {row['height']} x {row['width']} pixels (height x width), but the "
                f"image of that name in the split '{split}' has {height} x {width}: they are not the same."
            )
    if len(joined) < len(images):
        warn(f"{len(images) - len(joined)} of {len(images)} predicted images are not in '{split}' and are left out.")
    if len(joined) < len(names):
        joined_indices = {index for _, index in joined}
        missing = next(name for index, name in enumerate(names) if index not in joined_indices)
        warn(
            f"{len(names) - len(joined)} of {len(names)} images of '{split}' were not predicted, such as {missing}: "
            "their objects count as missed."
        )
    return {
        row["id"]: None if index is None else dataset.image_id(index)
        for row, index in zip(images, matches, strict=True)
    }


def match_paths(paths: Sequence[str | None], known: Sequence[str]) -> list[int | None]:
    """Return the index of the known path that each path stands for, as far as there is one.

    It is the same absolute path, or one with the same file name and as many equal parts before it as no other. A known
    path is returned once, for the path that has most in common with it.

    Args:
        paths: paths, of another machine or folder perhaps; ``None`` is not matched.
        known: known paths.

    Raises:
        UserError: a path has equally much in common with several known ones, or the reverse.
    """
    by_name: dict[str, list[int]] = defaultdict(list)
    known_parts = [_reversed_parts(path) for path in known]
    for index, parts in enumerate(known_parts):
        by_name[parts[0]].append(index)
    absolute = [os.path.abspath(path) for path in known]  # a relative path may be of another working folder
    pairs: dict[int, list[tuple[int, int]]] = defaultdict(list)  # equal parts -> path and known path
    for number, path in enumerate(paths):
        if path is None:
            continue
        parts, same = _reversed_parts(path), os.path.abspath(path) if os.path.isabs(path) else None
        for index in by_name.get(parts[0], ()):
            equal = _SAME_PATH if absolute[index] == same else _count_equal(parts, known_parts[index])
            pairs[equal].append((number, index))
    result: list[int | None] = [None] * len(paths)
    matched: dict[int, int] = {}
    for equal in sorted(pairs, reverse=True):
        free = [(number, index) for number, index in pairs[equal] if result[number] is None and index not in matched]
        for number, index in free:
            other = result[number]
            if other is not None:
                raise UserError(
                    f"{paths[number]} may be {known[other]} or {known[index]}: predict on the folder of the data set."
                )
            if index in matched:
                raise UserError(
                    f"{known[index]} may be {paths[matched[index]]} or {paths[number]}: predict on each image once."
                )
            result[number], matched[index] = index, number
    return result


def _reversed_parts(path: str) -> list[str]:
    normal = unicodedata.normalize("NFC", path).replace("\\", "/")
    return [part for part in normal.split("/") if part not in ("", ".")][::-1] or [""]


def _count_equal(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the number of equal parts from the start."""
    for count, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return count
    return min(len(first), len(second))


def _join_categories(
    file: Path,
    categories: Sequence[Mapping[str, Any]],
    used: set[int],
    dataset: DetectionDataset,
    warn: Callable[[str], None],
) -> dict[int, int | None]:
    """Return the id in the data set of each category that the results have; ``None`` for others."""
    names = dict(zip(dataset.category_ids, dataset.classes, strict=True))
    free = set(dataset.classes) - {str(category["name"]) for category in categories}
    ids: dict[int, int | None] = {}
    missing: list[str] = []
    for category in categories:
        key, name = category["id"], str(category["name"])
        same = [key] if names.get(key) == name else [other for other, label in names.items() if label == name]
        ids[key] = same[0] if len(same) == 1 else None
        if len(same) == 1 or key not in used:
            continue
        if same:
            raise UserError(f"{file}: the data set has {len(same)} categories with the name '{name}'.")
        missing.append(name)
    near = next((name for name in missing if did_you_mean(name, free)), None)
    if missing and (near or all(new is None for new in ids.values())):
        name = near or missing[0]
        raise UserError(
            f"{file}: the data set has no category '{name}', only {', '.join(dataset.classes)}."
            f"{did_you_mean(name, free or dataset.classes)}"
        )
    if missing:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        warn(f"detections of classes that are not in the data set are left out: {some}.")
    return ids
