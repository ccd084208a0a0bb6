"""``drfpn export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, Json, print_json
from drfpn.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from drfpn.export import Parity

_SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
CALIBRATION = 100
"""Images of the training split that ranges are taken from."""


def export(
    run: Annotated[Path, typer.Argument(help="Run folder or weights (.safetensors).")],
    format_: Annotated[
        str, typer.Option("--format", help="'onnx', 'openvino', or 'pt2' for torch.export.", metavar="FORMAT")
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write, .onnx, .xml or .pt2; beside the weights by default.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help=f"Also compare AP. {DATA_HELP}", metavar="DATA")] = None,
    split: Annotated[str, typer.Option(help="Split of --data.")] = "val",
    int8: Annotated[
        bool, typer.Option("--int8", help=f"OpenVINO with convolutions in 8 bits, set by {CALIBRATION} images of DATA.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a whole detector for another runtime, from bytes of any size to boxes, and compare the two.

    The comparison is printed and written beside the file as FILE.parity.json.
    """
    from drfpn.data import open_dataset
    from drfpn.export import blotches, load_exported, measure_parity, metadata_of
    from drfpn.training import load_detector
    from drfpn.utils.console import say
    from drfpn.utils.io import write_json
    from drfpn.utils.runs import find_weights

    suffix = _check(format_, out, data, int8)
    model, card = load_detector(run)
    dataset = None if data is None else open_dataset(data, split, masks=card.config.masks, warn=say)
    if dataset is not None and dataset.classes != card.classes:
        raise UserError(
            f"{run} knows the classes {', '.join(card.classes)}, but {data} has {', '.join(dataset.classes)}."
        )
    file = find_weights(run).with_suffix(".int8.xml" if int8 else suffix) if out is None else out
    file.parent.mkdir(parents=True, exist_ok=True)
    say(f"exporting {card.config.model}, which may take some minutes")
    _write(model, file, metadata_of(model, card), format_, open_dataset(str(data), "train", warn=say) if int8 else None)
    exported = load_exported(file)
    parity = measure_parity(model, exported, blotches())
    report: dict[str, Any] = {"file": str(file), "format": format_, "int8": int8, "parity": parity.model_dump()}
    if dataset is not None:
        report["ap"] = _ap(model, exported, dataset, split, masks=card.config.masks)
    write_json(file.with_name(f"{file.name}.parity.json"), report)
    if json:
        print_json(report)
        return
    typer.echo(f"{file}\n{_summary(parity)}")
    for name, (eager, other) in report.get("ap", {}).items():
        typer.echo(f"{name} {100 * eager:.2f} in PyTorch, {100 * other:.2f} exported ({100 * (other - eager):+.2f})")


def _check(format_: str, out: Path | None, data: str | None, int8: bool) -> str:
    """Return the ending of a format's files.

    Raises:
        UserError: options that do not go together, or packages that are not installed.
    """
    from drfpn.export import require

    if format_ not in _SUFFIX:
        known = ", ".join(_SUFFIX)
        raise UserError(
            f"--format must be one of {known}, not '{format_}'.{did_you_mean(format_, _SUFFIX)}",
            exit_code=2,
        )
    suffix = _SUFFIX[format_]
    if out is not None and out.suffix != suffix:
        raise UserError(f"--out must end in {suffix} for --format {format_}, not as {out} does.", exit_code=2)
    if int8 and (format_ != "openvino" or data is None):
        raise UserError(
            "--int8 goes with --format openvino and needs images to set its ranges by: --data.", exit_code=2
        )
    if format_ != "pt2":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package, "onnx")
    if format_ == "openvino":
        require("openvino", "openvino")
    if int8:
        require("nncf", "quant")
    return suffix


def _write(model: Any, file: Path, metadata: dict[str, str], format_: str, calibration: Any) -> None:
    """Export to ``file``; with a data set to set ranges by, in 8 bits."""
    import tempfile

    from drfpn.export import quantize, to_archive, to_onnx, to_openvino

    if calibration is None:
        {"onnx": to_onnx, "openvino": to_openvino, "pt2": to_archive}[format_](model, file, metadata)
        return
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder, "full.xml")
        to_openvino(model, full, metadata)
        quantize(full, file, (calibration.image(i) for i in range(min(CALIBRATION, len(calibration)))))


def _ap(model: Any, exported: Any, dataset: Any, split: str, *, masks: bool) -> dict[str, tuple[float, float]]:
    """Return AP of boxes, and of masks where there are some: of the detector and of the exported one."""
    from drfpn.evaluation import detect, score

    truth, options = dataset.ground_truth(), {"category_ids": dataset.category_ids}
    first, second = (
        # one image at a time, as exported ones run: what others of a batch are padded to changes a border's numbers
        score(truth, detect(one, dataset, batch_size=1, **options), split=split, masks=masks).summary()
        for one in (model, exported)
    )
    return {name: (first[name], second[name]) for name in ("AP", "mask_AP") if name in first}


def _summary(parity: "Parity") -> str:
    text = (
        f"{parity.matched} of {parity.detections} detections in {parity.images} images of other sizes are the same; "
        f"greatest difference {parity.boxes:.1e} px, score {parity.scores:.1e}"
    )
    return text if parity.masks is None else f"{text}, mask {parity.masks:.1e}"
