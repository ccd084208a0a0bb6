"""``drfpn predict``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drfpn.cli.common import Device, Json, choose_device, print_json
from drfpn.utils.errors import UserError

if TYPE_CHECKING:
    from drfpn.inference import Done

_NAMED = 5
"""So many bad files are named again at the end."""


def predict(
    run: Annotated[
        Path, typer.Argument(help="Run folder, weights (.safetensors) or exported file (.onnx, .xml, .pt2).")
    ],
    inputs: Annotated[
        list[str], typer.Argument(help="Images, videos, folders of them, or quoted glob patterns.", metavar="INPUT...")
    ],
    out: Annotated[Path, typer.Option(help="Folder for pictures, videos and results.")],
    score: Annotated[float, typer.Option(min=0, max=1, help="Least score of what is drawn and in the CSV.")] = 0.5,
    every: Annotated[int, typer.Option(min=1, help="Look at each N-th frame of a video.", metavar="N")] = 1,
    compare: Annotated[
        Path | None, typer.Option(help="Another run or weights, drawn beside the first on each image.", metavar="RUN")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Draw what a trained detector finds in images and videos, and write it as COCO results and as a table.

    results.csv lists what is drawn: file, frame of a video (from 0), image id, class, score, and the box in pixels.
    results.json holds all detections (from score 0.05 on) as COCO has them. Both name images by the number in the file
    name where all files are called by one, as COCO's are, else 1, 2, 3, ...; images.json says which is which.

    With --compare, what both detectors found (same class, IoU at least 0.5) is grey, and what only one found is
    coloured; compare.json has the counts of each image.
    """
    from drfpn.inference import find_inputs, load_predictor, predict_files

    files = find_inputs(inputs)
    where = choose_device(device)
    predictor = load_predictor(run, where)
    other = None if compare is None else load_predictor(compare, where)
    done = predict_files(predictor, files, out, min_score=score, every=every, other=other)
    if json:
        print_json({"out": str(out), **asdict(done)})
    else:
        typer.echo(_summary(done, out))
    if done.failed:
        named = ", ".join(done.failed[:_NAMED]) + (", ..." if len(done.failed) > _NAMED else "")
        raise UserError(f"{len(done.failed)} of {len(files)} files could not be read ({named}); the others are done.")


def _summary(done: "Done", out: Path) -> str:
    kinds = []
    if done.images or not done.videos:
        kinds.append(f"{done.images} pictures")
    if done.videos:
        kinds.append(f"{done.videos} videos ({done.frames} frames looked at)")
    text = f"{' and '.join(kinds)}, results.json ({done.detections} detections) and results.csv in {out}"
    if done.compared is not None:
        both, left, right = (done.compared[key] for key in ("both", "only_left", "only_right"))
        text += f"\nfound by both {both}, only by the first {left}, only by the second {right}"
    return text
