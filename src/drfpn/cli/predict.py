"""``drfpn predict``."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from drfpn.cli.common import Device, Json, choose_device, print_json
from drfpn.errors import UserError, sentence


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder or weights (.safetensors).")],
    inputs: Annotated[
        list[str], typer.Argument(help="Images, folders of images, or glob patterns.", metavar="INPUT...")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and results.json.")],
    score: Annotated[float, typer.Option(min=0, max=1, help="Least score of a box that is drawn.")] = 0.5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Draw what a trained detector finds, and write it all as COCO results (from score 0.05 on).

    The results name images by the number in the file name where all files are called by one, as COCO's are, else
    1, 2, 3, ...; images.json says which is which.
    """
    from drfpn.analysis import draw
    from drfpn.engine import find_images, load_detector, predict_file
    from drfpn.engine.checkpoint import write_json
    from drfpn.engine.predict import image_ids
    from drfpn.engine.progress import bar

    files = find_images(inputs)
    model, card = load_detector(run)
    where = choose_device(device)
    model.to(where)
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    drawn, failed = 0, []
    names = _picture_names(files)
    with bar("predicting", len(files)) as progress:
        for file, image_id, name in zip(files, image_ids(files), names, strict=True):
            try:
                found = predict_file(model, file, device=where)
            except UserError as error:  # one bad file does not cost the others
                failed.append(str(file))
                print(f"drfpn: {sentence(error)}", file=sys.stderr)
                continue
            results += found.to_coco(image_id, card.category_ids)
            sure = found.above(score)
            picture = draw(sure.image, sure.boxes, sure.labels, card.classes, sure.scores, masks=sure.masks())
            picture.save(out / name, quality=92)
            drawn += 1
            progress.advance()
    write_json(out / "results.json", results)
    write_json(
        out / "images.json",
        [{"id": image_id, "file_name": str(file)} for file, image_id in zip(files, image_ids(files), strict=True)],
    )
    if json:
        print_json({"out": str(out), "images": drawn, "detections": len(results), "failed": failed})
    else:
        typer.echo(f"{drawn} pictures and results.json ({len(results)} detections) in {out}")
    if failed:
        raise UserError(f"{len(failed)} of {len(files)} files could not be read; the others are done.")


def _picture_names(files: list[Path]) -> list[str]:
    """Name each picture by its file; files of one name in several folders get a number."""
    names: list[str] = []
    for file in files:
        name, number = f"{file.stem}.jpg", 2
        while name in names:
            name, number = f"{file.stem}-{number}.jpg", number + 1
        names.append(name)
    return names
