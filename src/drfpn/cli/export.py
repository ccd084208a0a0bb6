"""``drfpn export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, Json, percent, print_json
from drfpn.errors import UserError, nearest

if TYPE_CHECKING:
    from drfpn.export import Parity

_SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


def export(
    run: Annotated[Path, typer.Argument(help="Run folder or weights (.safetensors).")],
    format_: Annotated[str, typer.Option("--format", help="'onnx' or 'openvino'.", metavar="FORMAT")],
    out: Annotated[
        Path | None, typer.Option(help="File to write, .onnx or .xml; beside the weights by default.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help=f"Also compare AP. {DATA_HELP}", metavar="DATA")] = None,
    split: Annotated[str, typer.Option(help="Split of --data.")] = "val",
    json: Json = False,
) -> None:
    """Write a whole detector for another runtime, from bytes of any size to boxes, and compare the two.

    The comparison is printed and written beside the file as NAME.parity.json.
    """
    if format_ not in _SUFFIX:
        raise UserError(
            f"--format must be {' or '.join(_SUFFIX)}, not '{format_}'.{nearest(format_, _SUFFIX)}", exit_code=2
        )
    suffix = _SUFFIX[format_]
    if out is not None and out.suffix != suffix:
        raise UserError(f"--out must end in {suffix} for --format {format_}, not as {out} does.", exit_code=2)

    from drfpn.data import open_dataset
    from drfpn.engine import load_detector
    from drfpn.engine.checkpoint import find_weights, write_json
    from drfpn.engine.progress import say
    from drfpn.export import blotches, load_exported, measure_parity, metadata_of, require, to_onnx, to_openvino

    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "onnx")
    if format_ == "openvino":
        require("openvino", "openvino")
    model, card = load_detector(run)
    dataset = None if data is None else open_dataset(data, split, masks=card.config.masks, warn=say)
    if dataset is not None and dataset.classes != card.classes:
        raise UserError(
            f"{run} knows the classes {', '.join(card.classes)}, but {data} has {', '.join(dataset.classes)}."
        )
    file = find_weights(run).with_suffix(suffix) if out is None else out
    file.parent.mkdir(parents=True, exist_ok=True)
    say(f"exporting {card.config.model}, which takes some minutes")
    (to_onnx if format_ == "onnx" else to_openvino)(model, file, metadata_of(model, card))
    exported = load_exported(file)
    parity = measure_parity(model, exported, blotches())
    report: dict[str, Any] = {"file": str(file), "format": format_, "parity": parity.model_dump()}
    if dataset is not None:
        report["ap"] = _ap(model, exported, dataset, split, masks=card.config.masks)
    write_json(file.with_suffix(".parity.json"), report)
    if json:
        print_json(report)
    else:
        typer.echo(f"{file}\n{_summary(parity)}")
        for name, (eager, other) in report.get("ap", {}).items():
            typer.echo(f"{name} {percent(eager)} in PyTorch, {percent(other)} exported")


def _ap(model: Any, exported: Any, dataset: Any, split: str, *, masks: bool) -> dict[str, tuple[float, float]]:
    """Return AP of boxes, and of masks where there are some: of the detector and of the exported one."""
    from drfpn.engine import detect, score

    truth = dataset.ground_truth()
    first, second = (
        score(truth, detect(one, dataset, category_ids=dataset.category_ids), split=split, masks=masks).summary()
        for one in (model, exported)
    )
    return {name: (first[name], second[name]) for name in ("AP", "mask_AP") if name in first}


def _summary(parity: "Parity") -> str:
    text = (
        f"{parity.matched} of {parity.detections} detections in {parity.images} images of other sizes are the same; "
        f"greatest difference {parity.boxes:.1e} px, score {parity.scores:.1e}"
    )
    return text if parity.masks is None else f"{text}, mask {parity.masks:.1e}"
