"""Inference with exported files, in ONNX Runtime, OpenVINO or PyTorch."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor

from drfpn.export.onnx import OUTPUT_NAMES
from drfpn.export.openvino import RT_INFO_KEY
from drfpn.export.pt2 import METADATA_FILE
from drfpn.ops import PADDING_SCORE
from drfpn.utils.errors import UserError
from drfpn.utils.packages import import_optional

Arrays = dict[str, np.ndarray[Any, Any]]
"""Outputs by name, as of :class:`drfpn.export.EndToEndDetector`."""


@dataclass(frozen=True)
class ExportedDetector:
    """A detector in another runtime, with the methods of a detector in evaluation mode."""

    run: Callable[[np.ndarray[Any, Any]], Arrays]
    """Runs the graph on an image (3, H, W), RGB, uint8."""
    model: str
    """Name of the detector that was exported."""
    classes: tuple[str, ...]
    """Class names: that of label k is ``classes[k - 1]``."""
    category_ids: tuple[int, ...]
    """Category ids of the data set: that of label k is ``category_ids[k - 1]``."""
    masks: bool
    """Whether it predicts masks."""

    def eval(self) -> Self:
        """Return the detector itself, which has no training mode."""
        return self

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Detect objects in each image.

        Args:
            images: (3, H, W) each, RGB, uint8.

        Returns:
            For each image "boxes" (D, 4) in its pixels, "labels" (D,), 1..K, "scores" (D,), and of detectors with masks
            "crops" (D, 1, M, M), mask probabilities inside of each box; all on the CPU.
        """
        results = []
        for image in images:
            outputs = {name: torch.from_numpy(value) for name, value in self.run(image.cpu().numpy()).items()}
            valid = outputs["scores"] > PADDING_SCORE
            result = {name: outputs[name][valid] for name in ("boxes", "labels", "scores")}
            if "masks" in outputs:
                result["crops"] = outputs["masks"][valid][:, None]
            results.append(result)
        return results


def is_exported_file(file: str | Path) -> bool:
    """Return whether a file is one for :func:`load_exported`, judged by its extension.

    Args:
        file: file or folder, which need not exist.
    """
    return Path(file).suffix.lower() in _LOADERS


def load_exported(file: str | Path) -> ExportedDetector:
    """Load an exported detector, for inference on the CPU.

    Args:
        file: file that this library exported: .onnx, .xml (with the .bin file beside it) or .pt2.

    Raises:
        UserError: the file does not exist or was not exported by this library, or the runtime is not installed.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"There is no exported detector {file}.")
    run, metadata, names = _LOADERS[file.suffix.lower()](file)
    try:
        classes, ids = json.loads(metadata["classes"]), json.loads(metadata["category_ids"])
        return ExportedDetector(run, metadata["model"], tuple(classes), tuple(ids), "masks" in names)
    except (KeyError, ValueError) as error:
        raise UserError(f"{file} was not exported by drfpn: its metadata lack the names of the classes.") from error


_LoadedGraph = tuple[Callable[[np.ndarray[Any, Any]], Arrays], dict[str, str], Sequence[str]]
"""Function that runs the graph, metadata, names of the outputs."""


def _load_onnx(file: Path) -> _LoadedGraph:
    runtime: Any = import_optional("onnxruntime", "onnx")
    try:
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of ONNX Runtime have no common base class but Exception
        raise UserError(f"{file} cannot be read by ONNX Runtime: {str(error).splitlines()[0]}") from error
    names = [output.name for output in session.get_outputs()]

    def run(image: np.ndarray[Any, Any]) -> Arrays:
        return dict(zip(names, session.run(None, {"image": image}), strict=True))

    return run, session.get_modelmeta().custom_metadata_map, names


def _load_openvino(file: Path) -> _LoadedGraph:
    openvino: Any = import_optional("openvino", "openvino")
    try:
        core = openvino.Core()
        graph = core.read_model(file)
        # half precision, the default of OpenVINO on processors that have it, would move boxes
        compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise UserError(f"{file} cannot be read by OpenVINO: {str(error).strip().splitlines()[-1]}") from error
    names = [name for name in OUTPUT_NAMES if any(name in output.get_names() for output in compiled.outputs)]

    def run(image: np.ndarray[Any, Any]) -> Arrays:
        outputs = compiled(image)
        return {name: np.array(outputs[name]) for name in names}

    info = graph.get_rt_info()
    section = info[RT_INFO_KEY] if RT_INFO_KEY in info else {}  # noqa: SIM401  some versions of OpenVINO lack get
    section = getattr(section, "value", section)  # some versions wrap values
    metadata = {key: str(getattr(value, "value", value)) for key, value in section.items()}
    return run, metadata, names


def _load_pt2(file: Path) -> _LoadedGraph:
    if not is_zipfile(file):  # torch would print a traceback before it raises
        raise UserError(f"{file} cannot be read by torch.export: it is not an archive.")
    extra_files = {METADATA_FILE: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, for weights that share memory
            program = torch.export.load(file, extra_files=extra_files)
        metadata = json.loads(extra_files[METADATA_FILE] or "{}")
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise UserError(f"{file} cannot be read by torch.export: {str(error).splitlines()[0]}") from error
    module: Any = program.module()
    device = next(module.parameters()).device
    output_spec = program.call_spec.out_spec
    assert output_spec is not None

    def run(image: np.ndarray[Any, Any]) -> Arrays:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(image).to(device))
        return {name: value.cpu().numpy() for name, value in outputs.items()}

    # archives of other tools may return anything but a dict
    names = output_spec.unflatten(range(output_spec.num_leaves)) if metadata else ()
    return run, metadata, tuple(names)


_LOADERS = {".onnx": _load_onnx, ".xml": _load_openvino, ".pt2": _load_pt2}
