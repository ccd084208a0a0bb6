"""``drfpn predict``: detections in images and videos, as pictures, COCO results and CSV."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import Device, Json, Overlap, Tile, TileFull, choose_device, print_json
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    from drfpn.inference import PredictionSummary

_NAMED = 5
"""Number of unreadable files named in the error message."""


def predict(
    run: Annotated[
        Path, typer.Argument(help="Run folder, weights (.safetensors) or exported detector (.onnx, .xml, .pt2).")
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
    """
    from drfpn.inference import find_inputs, load_predictor, predict_files

    files = find_inputs(inputs)
    target_device = choose_device(device)
    tiling: dict[str, Any] = {"tile": tile, "overlap": overlap, "tile_full": tile_full}
    predictor = load_predictor(run, target_device, **tiling)
    other = None if compare is None else load_predictor(compare, target_device, **tiling)
    summary = predict_files(
        predictor, files, out, score_threshold=score_threshold, frame_stride=frame_stride, compare_with=other
    )
    if json:
        print_json({"out": str(out), **asdict(summary)})
    else:
        typer.echo(_describe(summary, out))
    if summary.failed:
        names = ", ".join(summary.failed[:_NAMED]) + (", ..." if len(summary.failed) > _NAMED else "")
        raise UserError(
            f"{len(summary.failed)} of {len(files)} files could not be read ({names}); the others are done."
        )


def _describe(summary: "PredictionSummary", out: Path) -> str:
    kinds = []
    if summary.images or not summary.videos:
        kinds.append(f"{summary.images} pictures")
    if summary.videos:
        kinds.append(f"{summary.videos} videos ({summary.frames} frames)")
    text = f"{' and '.join(kinds)}, results.json ({summary.detections} detections) and results.csv in {out}"
    if summary.compared is not None:
        both, left, right = (summary.compared[key] for key in ("both", "only_left", "only_right"))
        text += f"\ndetected by both {both}, only by the first {left}, only by the second {right}"
    return text
