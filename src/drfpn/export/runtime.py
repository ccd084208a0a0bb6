"""An exported file as a detector: what evaluation and prediction call."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor

from drfpn.export.archive import METADATA
from drfpn.export.onnx import OUTPUTS, require
from drfpn.export.openvino import SECTION
from drfpn.ops import PADDING_SCORE
from drfpn.utils.errors import UserError

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Exported:
    """A detector in another runtime, which is called as those of this library are in evaluation."""

    run: Callable[[np.ndarray[Any, Any]], Arrays]
    """From an image (3, H, W), bytes, to its detections by name."""
    model: str
    """Name of the detector that was exported."""
    classes: tuple[str, ...]
    """Name of each class: label k is ``classes[k - 1]``."""
    category_ids: tuple[int, ...]
    """The data set's own id of each class."""
    masks: bool
    """Whether it gives masks."""

    def eval(self) -> "Exported":
        """Return itself: it is never in training."""
        return self

    def detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return for each image (3, H, W), bytes, "boxes", "labels" and "scores", and of mask detectors "crops"."""
        outputs = []
        for image in images:
            found = {name: torch.from_numpy(value) for name, value in self.run(image.cpu().numpy()).items()}
            real = found["scores"] > PADDING_SCORE
            output = {name: found[name][real] for name in ("boxes", "labels", "scores")}
            if "masks" in found:
                output["crops"] = found["masks"][real][:, None]
            outputs.append(output)
        return outputs


def is_exported(file: str | Path) -> bool:
    """Say by its extension whether a file is for :func:`load_exported`."""
    return Path(file).suffix.lower() in _LOADERS


def load_exported(file: str | Path) -> Exported:
    """Load what ``drfpn export`` wrote, .onnx, .xml or .pt2.

    Raises:
        UserError: no such file, a file of another origin, or the runtime is not installed.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"There is no exported detector {file}.")
    run, metadata, names = _LOADERS[file.suffix.lower()](file)
    try:
        classes, ids = json.loads(metadata["classes"]), json.loads(metadata["category_ids"])
        return Exported(run, metadata["model"], tuple(classes), tuple(ids), "masks" in names)
    except (KeyError, ValueError) as error:
        raise UserError(f"{file} was not written by drfpn export: it does not say which classes it knows.") from error


_Loaded = tuple[Callable[[np.ndarray[Any, Any]], Arrays], dict[str, str], Sequence[str]]


def _load_onnx(file: Path) -> _Loaded:
    runtime: Any = require("onnxruntime", "onnx")
    try:
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a dozen kinds, all derived from Exception alone
        raise UserError(f"{file} cannot be read by ONNX Runtime: {str(error).splitlines()[0]}") from error
    names = [output.name for output in session.get_outputs()]

    def run(image: np.ndarray[Any, Any]) -> Arrays:
        return dict(zip(names, session.run(None, {"image": image}), strict=True))

    return run, session.get_modelmeta().custom_metadata_map, names


def _load_openvino(file: Path) -> _Loaded:
    openvino: Any = require("openvino", "openvino")
    try:
        core = openvino.Core()
        graph = core.read_model(file)
        # half precision, which it takes by itself where the processor has it, would move boxes
        compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise UserError(f"{file} cannot be read by OpenVINO: {str(error).strip().splitlines()[-1]}") from error
    names = [name for name in OUTPUTS if any(name in output.get_names() for output in compiled.outputs)]

    def run(image: np.ndarray[Any, Any]) -> Arrays:
        found = compiled(image)
        return {name: np.array(found[name]) for name in names}

    info = graph.get_rt_info()
    section = info[SECTION] if SECTION in info else {}  # noqa: SIM401  not every version has get
    section = getattr(section, "value", section)  # some versions wrap it
    metadata = {key: str(getattr(value, "value", value)) for key, value in section.items()}
    return run, metadata, names


def _load_archive(file: Path) -> _Loaded:
    if not is_zipfile(file):  # of which torch would print its traceback before it raises
        raise UserError(f"{file} cannot be read by torch.export: it is not an archive.")
    extra = {METADATA: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on weights that share memory
            program = torch.export.load(file, extra_files=extra)
        metadata = json.loads(extra[METADATA] or "{}")
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise UserError(f"{file} cannot be read by torch.export: {str(error).splitlines()[0]}") from error
    module: Any = program.module()
    device = next(module.parameters()).device
    outputs = program.call_spec.out_spec
    assert outputs is not None

    def run(image: np.ndarray[Any, Any]) -> Arrays:
        with torch.inference_mode():
            found = module(torch.from_numpy(image).to(device))
        return {name: value.cpu().numpy() for name, value in found.items()}

    names = outputs.unflatten(range(outputs.num_leaves)) if metadata else ()  # of ours a dict, of others anything
    return run, metadata, tuple(names)


_LOADERS = {".onnx": _load_onnx, ".xml": _load_openvino, ".pt2": _load_archive}
