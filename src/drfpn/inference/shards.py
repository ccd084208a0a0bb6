"""Shards of a prediction: each writes its results to a folder of its own, and they are merged to those of one process.

``OUT/shards/K-of-N`` holds the result files of shard K, with image ids from 1 where the names have no ids, and
``shard.json`` after its end. Merging takes no lock: each process that merges writes the same bytes to files of its own,
which then replace those of ``OUT``.
"""

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pydantic import BaseModel, ValidationError

from drfpn.inference.outputs import open_json_array
from drfpn.inference.predictor import Predictor
from drfpn.inference.summary import PredictionSummary
from drfpn.inference.tiling import TiledDetector
from drfpn.utils.errors import UserError
from drfpn.utils.io import make_folder, write_atomically, write_json
from drfpn.utils.shard import Shard

SHARDS = "shards"
"""Name of the folder in the output folder."""
_RECORD = "shard.json"


class ShardRecord(BaseModel):
    """What is known of a shard that has ended."""

    digest: str
    """Digest of inputs, detectors and options; only shards with the same one belong together."""
    has_ids: bool
    """Whether the image ids are those of the file names, as in COCO; else they count from 1 in every shard."""
    summary: PredictionSummary


def shard_folder(out: Path, shard: Shard) -> Path:
    """Return the folder for the result files of a shard.

    Args:
        out: output folder of all shards.
        shard: the shard.
    """
    return out / SHARDS / f"{shard.number}-of-{shard.total}"


def start_shard(out: Path, shard: Shard) -> Path:
    """Create the folder of a shard and return it; if it has ended before, it counts as not finished from now on.

    Args:
        out: output folder of all shards.
        shard: the shard.
    """
    folder = shard_folder(out, shard)
    make_folder(folder)
    (folder / _RECORD).unlink(missing_ok=True)
    return folder


def finish_shard(out: Path, shard: Shard, record: ShardRecord) -> int:
    """Store that a shard has ended, and merge all shards if it is the last.

    Args:
        out: output folder of all shards.
        shard: the shard.
        record: what is known of it.

    Returns:
        The number of shards that have not ended, or have ended with other inputs; 0 after the merge.
    """
    write_atomically(shard_folder(out, shard) / _RECORD, record.model_dump_json().encode())
    records = [_read_record(out, Shard(number, shard.total)) for number in range(1, shard.total + 1)]
    missing = sum(other is None or other.digest != record.digest for other in records)
    if not missing:
        merge_shards(out)
    return missing


def digest(files: Sequence[Path], predictors: Sequence[Predictor], options: Sequence[Any]) -> str:
    """Return a digest of what the results of a prediction depend on, without the contents of the input files.

    Args:
        files: all inputs.
        predictors: the detectors.
        options: other values that ``json`` can write.
    """
    detectors = []
    for predictor in predictors:
        model = predictor.model
        tiles = (model.tile, model.overlap, model.full) if isinstance(model, TiledDetector) else ()
        weights = None
        if predictor.file is not None:
            with predictor.file.open("rb") as stream:
                weights = hashlib.file_digest(stream, "sha256").hexdigest()
        detectors.append([predictor.name, predictor.classes, predictor.category_ids, tiles, weights])
    text = json.dumps([[str(file) for file in files], detectors, options])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def merge_shards(out: Path) -> PredictionSummary:
    """Merge the results of all shards of a prediction to those of an undivided one, byte for byte.

    It may be called again, and by several processes at once.

    Args:
        out: output folder of the shards.

    Returns:
        The numbers of all shards together.

    Raises:
        UserError: shards are missing, or were made with different inputs, detectors or options.
    """
    count, records = _complete_shards(out)
    folders = [shard_folder(out, Shard(number, count)) for number in range(1, count + 1)]
    offsets = _id_offsets(folders, records)
    staged = Path(mkdtemp(prefix="merge-", dir=out / SHARDS))
    try:
        compared = records[0].summary.compared is not None
        for name in ("results", "results-compare") if compared else ("results",):
            _merge_arrays([folder / f"{name}.json" for folder in folders], offsets, "image_id", staged / f"{name}.json")
            _merge_tables([folder / f"{name}.csv" for folder in folders], offsets, staged / f"{name}.csv")
            categories = name.replace("results", "categories") + ".json"
            shutil.copyfile(folders[0] / categories, staged / categories)
        _merge_arrays([folder / "images.json" for folder in folders], offsets, "id", staged / "images.json")
        if compared:
            _merge_comparisons([folder / "compare.json" for folder in folders], offsets, staged / "compare.json")
        for file in staged.iterdir():
            file.replace(out / file.name)
    except OSError as error:
        raise UserError(f"The shards of {out} could not be merged: {error}.") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    total = PredictionSummary(missing_shards=0)
    for record in records:
        total.add(record.summary)
    return total


def _complete_shards(out: Path) -> tuple[int, list[ShardRecord]]:
    """Return the number of shards and their records.

    Raises:
        UserError: none are complete, several numbers of shards are, or the shards do not belong together.
    """
    names = [re.fullmatch(r"[0-9]+-of-([0-9]+)", folder.name) for folder in (out / SHARDS).glob("*-of-*")]
    counts = sorted({int(name[1]) for name in names if name})
    if not counts:
        raise UserError(f"{out} holds no shards: expected the output folder of a prediction that was made in shards.")
    records = {n: [_read_record(out, Shard(number, n)) for number in range(1, n + 1)] for n in counts}
    complete = [n for n in counts if all(record is not None for record in records[n])]
    if not complete:
        n = min(counts, key=lambda n: records[n].count(None))
        missing = [str(Shard(k, n)) for k, record in enumerate(records[n], start=1) if record is None]
        raise UserError(
            f"{len(missing)} of {n} shards of {out} are not finished: {', '.join(missing[:10])}"
            f"{', ...' * (len(missing) > 10)}; run them first."
        )
    if len(complete) > 1:
        raise UserError(
            f"{out / SHARDS} holds a prediction in {complete[0]} shards and another in {complete[1]}: remove one."
        )
    chosen = [record for record in records[complete[0]] if record is not None]
    for k, record in enumerate(chosen, start=1):
        if record.digest != chosen[0].digest:
            n = complete[0]
            raise UserError(
                f"Shards 1/{n} and {k}/{n} of {out} were made with different inputs, detectors or options: "
                "run the outdated ones again."
            )
    return complete[0], chosen


def _read_record(out: Path, shard: Shard) -> ShardRecord | None:
    try:
        return ShardRecord.model_validate_json((shard_folder(out, shard) / _RECORD).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _id_offsets(folders: Sequence[Path], records: Sequence[ShardRecord]) -> list[int]:
    """Return what is added to the image ids of each shard."""
    offsets = [0]
    for folder, record in zip(folders[:-1], records[:-1], strict=True):
        offsets.append(0 if record.has_ids else offsets[-1] + sum(1 for _ in _read_array(folder / "images.json")))
    return offsets


def _read_array(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the elements of an array that :class:`JsonArrayWriter` wrote, one a line."""
    with file.open("rb") as stream:
        for line in stream:
            element = line.strip().removesuffix(b",")
            if element not in (b"[", b"]", b"[]"):
                yield json.loads(element)


def _merge_arrays(files: Sequence[Path], offsets: Sequence[int], key: str, merged: Path) -> None:
    with open_json_array(merged) as writer:
        for file, offset in zip(files, offsets, strict=True):
            for element in _read_array(file):
                writer.add(element | {key: element[key] + offset})


def _merge_tables(files: Sequence[Path], offsets: Sequence[int], merged: Path) -> None:
    with ExitStack() as stack:
        writer = csv.writer(stack.enter_context(merged.open("w", encoding="utf-8", newline="")), lineterminator="\n")
        for number, (file, offset) in enumerate(zip(files, offsets, strict=True)):
            rows = csv.reader(stack.enter_context(file.open(encoding="utf-8", newline="")))
            header = next(rows)
            if number == 0:
                writer.writerow(header)
            column = header.index("image_id")
            for row in rows:
                writer.writerow([*row[:column], int(row[column]) + offset, *row[column + 1 :]])


def _merge_comparisons(files: Sequence[Path], offsets: Sequence[int], merged: Path) -> None:
    contents = [json.loads(file.read_bytes()) for file in files]
    images = [
        row | {"id": row["id"] + offset}
        for each, offset in zip(contents, offsets, strict=True)
        for row in each["images"]
    ]
    totals = {key: sum(each["all"][key] for each in contents) for key in contents[0]["all"]}
    write_json(merged, contents[0] | {"all": totals, "images": images})
