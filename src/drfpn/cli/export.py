"""``drfpn export``: ONNX, OpenVINO, torch.export and a page for the browser."""

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drfpn.cli.common import DATA_HELP, RUN_HELP, Json, print_json
from drfpn.utils.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from drfpn.detectors.base import CanDetect, DetectionModel
    from drfpn.export import OutputDifferences

logger = logging.getLogger(__name__)

_SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2", "web": ""}
"""Suffix of the files of a format; ``web`` is a folder."""
CALIBRATION = 100
"""Images of the training split that set the quantization ranges."""


def export(
    run: Annotated[Path, typer.Argument(help=RUN_HELP)],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format: 'onnx', 'openvino', 'pt2' for torch.export, or 'web', a page that detects in the browser.",
            metavar="FORMAT",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write (.onnx, .xml, .pt2), or folder of the page; default: beside the weights; of "
            "hf:USER/NAME, NAME.onnx."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help=f"{DATA_HELP} AP is compared on it.", metavar="DATA")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to compare AP on.")] = "val",
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help=f"Quantize convolutions to 8 bits, with {CALIBRATION} images of --data; OpenVINO only."
        ),
    ] = False,
    grid_sample: Annotated[
        bool,
        typer.Option(
            "--grid-sample/--no-grid-sample",
            help="Sample by the operator GridSample, or by gathers, for runtimes without it; ONNX and web.",
        ),
    ] = True,
    json: Json = False,
) -> None:
    """Export a detector, from images of any size to boxes, and compare its detections with PyTorch's.

    The comparison is printed and written to FILE.parity.json beside the file.
    """
    from drfpn.data import open_dataset
    from drfpn.export import compare_outputs, export_metadata, load_exported, smooth_test_images
    from drfpn.training import load_detector
    from drfpn.utils.console import say
    from drfpn.utils.io import write_json

    _check(format_, out, data, int8, grid_sample)
    model, card = load_detector(run)
    options: dict[str, Any] = {"masks": card.config.masks, "crowd": card.config.crowd, "classes": card.classes}
    dataset = None if data is None else open_dataset(data, split, warn=logger.warning, **options)
    file = _file(run, out, format_, int8)
    say(f"exporting {card.config.model}, which may take some minutes")
    calibration = open_dataset(str(data), "train", warn=logger.warning) if int8 else None
    onnx_options = {} if grid_sample else {"grid_sample": False}
    _write(model, file, export_metadata(model, card), format_, calibration, onnx_options)
    exported = load_exported(file)
    parity = compare_outputs(model, exported, smooth_test_images())
    report: dict[str, Any] = {"file": str(file), "format": format_, "int8": int8, "parity": parity.model_dump()}
    if dataset is not None:
        report["ap"] = _ap(model, exported, dataset, split, masks=card.config.masks)
    write_json(file.with_name(f"{file.name}.parity.json"), report)
    if json:
        print_json(report)
        return
    typer.echo(f"{file}\n{_summary(parity)}")
    if format_ == "web":
        typer.echo(f"to see the page: python -m http.server --directory {shlex.quote(str(file.parent))}")
    for name, (eager, other) in report.get("ap", {}).items():
        if eager is None or other is None:
            typer.echo(f"{name} is not defined: '{split}' has no objects")
            continue
        typer.echo(f"{name} {100 * eager:.2f} in PyTorch, {100 * other:.2f} exported ({100 * (other - eager):+.2f})")


def _beside_weights(run: Path) -> Path:
    """Return the file of weights, whose suffix is replaced; of a run on the Hub a file in the current folder."""
    from drfpn.utils.hub import is_hub_name
    from drfpn.utils.runs import find_weights, name_runs

    return Path(f"{name_runs([run])[0]}.safetensors") if is_hub_name(run) else find_weights(run)


def _file(run: Path, out: Path | None, format_: str, int8: bool) -> Path:
    """Return the file of the detector to write.

    Raises:
        UserError: a page must not be written into the folder.
    """
    from drfpn.export.web import WEB_MODEL, require_web_folder

    if format_ == "web":
        folder = _beside_weights(run).with_name("web") if out is None else out
        require_web_folder(folder)
        return folder / WEB_MODEL
    suffix = ".int8.xml" if int8 else _SUFFIX[format_]
    file = _beside_weights(run).with_suffix(suffix) if out is None else out
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _check(format_: str, out: Path | None, data: str | None, int8: bool, grid_sample: bool) -> None:
    """Check options and packages.

    Raises:
        UsageError: options that exclude each other.
        UserError: packages that are not installed.
    """
    from drfpn.utils.packages import import_optional

    if format_ not in _SUFFIX:
        known = ", ".join(_SUFFIX)
        raise UsageError(
            f"--format must be one of {known}, not '{format_}'.{did_you_mean(format_, _SUFFIX)}",
        )
    suffix = _SUFFIX[format_]
    if out is not None and suffix and out.suffix != suffix:
        raise UsageError(f"--out must end in {suffix} for --format {format_}, not {out.suffix or 'without a suffix'}.")
    if int8 and (format_ != "openvino" or data is None):
        raise UsageError("--int8 needs --format openvino, and --data for the quantization ranges.")
    if not grid_sample and format_ not in ("onnx", "web"):
        raise UsageError(f"--no-grid-sample is for --format onnx or web, not {format_}.")
    if format_ != "pt2":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            import_optional(package, "onnx")
    if format_ == "openvino":
        import_optional("openvino", "openvino")
    if int8:
        import_optional("nncf", "quant")


def _write(
    model: "DetectionModel",
    file: Path,
    metadata: dict[str, str],
    format_: str,
    calibration: Any,
    onnx_options: dict[str, bool],
) -> None:
    """Export to ``file``, quantized if a calibration data set is given."""
    import tempfile

    from drfpn.export import quantize, to_onnx, to_openvino, to_pt2, to_web

    if format_ == "web":
        to_web(model, file.parent, metadata, **onnx_options)
        return
    if calibration is None:
        write: Any = {"onnx": to_onnx, "openvino": to_openvino, "pt2": to_pt2}[format_]
        write(model, file, metadata, **onnx_options)
        return
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder, "full.xml")
        to_openvino(model, full, metadata)
        quantize(full, file, (calibration.image(i) for i in range(min(CALIBRATION, len(calibration)))))


def _ap(
    model: "CanDetect", exported: "CanDetect", dataset: Any, split: str, *, masks: bool
) -> dict[str, tuple[float | None, float | None]]:
    """Return AP of boxes, and of masks if any, of the detector and of the exported one; ``None`` without objects."""
    from drfpn.evaluation import detect, evaluate_results

    truth, options = dataset.ground_truth(), {"category_ids": dataset.category_ids}
    first, second = (
        # one image at a time, as exported detectors run, since padding to a batch changes values at the border
        evaluate_results(truth, detect(one, dataset, batch_size=1, **options), split=split, masks=masks).summary()
        for one in (model, exported)
    )
    return {name: (first[name], second[name]) for name in ("AP", "mask_AP") if name in first}


def _summary(parity: "OutputDifferences") -> str:
    text = (
        f"{parity.matched} of {parity.detections} detections in {parity.images} images of other sizes match; "
        f"largest difference {parity.boxes:.1e} px, score {parity.scores:.1e}"
    )
    return text if parity.masks is None else f"{text}, mask {parity.masks:.1e}"
