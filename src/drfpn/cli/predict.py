"""``drfpn predict``: detections in images and videos, as pictures, COCO results and CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import (
    Device,
    Json,
    On,
    Overlap,
    ShardOption,
    Tile,
    TileFull,
    choose_device,
    parse_distribution,
    print_json,
)
from drfpn.utils.errors import UsageError, UserError

if TYPE_CHECKING:
    from drfpn.inference import PredictionSummary
    from drfpn.utils.shard import Shard

_NAMED = 5
"""Number of unreadable files named in the error message."""


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, weights (.safetensors), exported detector (.onnx, .xml, .pt2), or "
            "hf:USER/NAME[@REVISION] for a run on the Hugging Face Hub."
        ),
    ],
    inputs: Annotated[
        list[str], typer.Argument(help="Images, videos, folders, or quoted glob patterns.", metavar="INPUT...")
    ],
    out: Annotated[Path, typer.Option(help="Folder for drawn images, videos and results.")],
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Score below which detections are not drawn and not in results.csv.")
    ] = 0.5,
    frame_stride: Annotated[int, typer.Option(min=1, help="Detect in every N-th frame of a video.", metavar="N")] = 1,
    compare: Annotated[
        Path | None,
        typer.Option(help="Run or weights of another detector, to be drawn beside the first.", metavar="RUN"),
    ] = None,
    tile: Tile = None,
    overlap: Overlap = 0.2,
    tile_full: TileFull = True,
    shard: ShardOption = None,
    on: On = "local",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="With --on ray, parts of the files; default: one for each GPU, or CPU.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Detect objects in images and videos; draw the detections and write them as COCO results and as CSV.

    results.csv lists the drawn detections: file, frame of a video (from 0), image id, class, score, and box in pixels.
    results.json holds all detections with a score of at least 0.05 in COCO's format. The image id is the number in the
    file name if all names have one, as in COCO, else 1, 2, 3, ...; images.json maps ids to files, and categories.json
    ids to classes.

    With --compare, detections of both detectors (same class, IoU at least 0.5) are gray, and those of one detector
    colored; compare.json has the counts of each image.

    Several machines may share the files, if --out is on a disk that all of them can write to: by --shard, or by
    --on ray. The results are those of one process.
    """
    from drfpn.inference import find_inputs, load_predictor, predict_files

    part = parse_distribution(shard, on)
    if jobs is not None and on != "ray":
        raise UsageError("`jobs` is the number of parts on Ray: give `on='ray'` too, or `shard`.")
    files = find_inputs(inputs)
    # with Ray the detectors are loaded here only to name mistakes before any task starts
    target_device = choose_device("cpu" if on == "ray" else device)
    tiling: dict[str, Any] = {"tile": tile, "overlap": overlap, "tile_full": tile_full}
    predictor = load_predictor(run, target_device, **tiling)
    other = None if compare is None else load_predictor(compare, target_device, **tiling)
    options: dict[str, Any] = {"score_threshold": score_threshold, "frame_stride": frame_stride}
    if on == "ray":
        options |= {**tiling, "compare": compare, "device": device}
        summary = _predict_on_ray(run, inputs, len(files), out, options, jobs)
    else:
        summary = predict_files(predictor, files, out, compare_with=other, shard=part, **options)
    _print(summary, out, part, json=json)


def merge(
    out: Annotated[Path, typer.Argument(help="Output folder of 'drfpn predict' with --shard.", metavar="OUT")],
    json: Json = False,
) -> None:
    """Merge the results of the shards of a prediction; the last shard does this itself.

    It may be called again, and by several processes at once.

    Example: drfpn merge predictions
    """
    from drfpn.inference import merge_shards

    _print(merge_shards(out), out, None, json=json)


def _predict_on_ray(
    run: Path, inputs: Sequence[str], files: int, out: Path, options: Mapping[str, Any], jobs: int | None
) -> "PredictionSummary":
    """Predict parts of the files on the nodes of a Ray cluster, and merge the results."""
    from drfpn.inference.ray_prediction import predict_on_ray
    from drfpn.utils.ray_jobs import connect

    arguments = ["predict", f"--out={out}"]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{option[2:]}")
        elif value is not None:
            arguments.append(f"{option}={value}")
    with connect():
        return predict_on_ray([*arguments, "--", str(run), *inputs], files, out, device=options["device"], jobs=jobs)


def _print(summary: "PredictionSummary", out: Path, shard: "Shard | None", *, json: bool) -> None:
    """Print the numbers of a prediction.

    Raises:
        UserError: files could not be read.
    """
    if json:
        print_json({"out": str(out), **asdict(summary)})
    else:
        typer.echo(_describe(summary, out, shard))
    if summary.failed:
        names = ", ".join(summary.failed[:_NAMED]) + (", ..." if len(summary.failed) > _NAMED else "")
        raise UserError(
            f"{len(summary.failed)} of {summary.files} files could not be read ({names}); the others are done."
        )


def _describe(summary: "PredictionSummary", out: Path, shard: "Shard | None") -> str:
    kinds = []
    if summary.images or not summary.videos:
        kinds.append(f"{summary.images} pictures")
    if summary.videos:
        kinds.append(f"{summary.videos} videos ({summary.frames} frames)")
    if shard is not None:
        state = (
            f"{summary.missing_shards} of {shard.total} shards are not finished; the last one writes results.json to"
        )
        state = state if summary.missing_shards else "the results of all shards are in"
        text = f"shard {shard}: {' and '.join(kinds)}, {summary.detections} detections; {state} {out}"
    else:
        text = f"{' and '.join(kinds)}, results.json ({summary.detections} detections) and results.csv in {out}"
    if summary.compared is not None:
        both, left, right = (summary.compared[key] for key in ("both", "only_left", "only_right"))
        text += f"\ndetected by both {both}, only by the first {left}, only by the second {right}"
    return text
