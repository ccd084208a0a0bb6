"""Loads the weights of a torchvision detector into a detector of this library."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from drfpn.detectors.base import DetectionModel
from drfpn.detectors.published_weights import COCO, Checkpoint, read_checkpoint
from drfpn.necks import FPN, ExtraConvs
from drfpn.utils.weights import check_state_dict

_RENAMED = {
    r"backbone\.body\.": "backbone.body.body.",
    r"backbone\.fpn\.inner_blocks\.(\d+)\.(?:0\.)?(weight|bias)$": r"backbone.neck.lateral.\1.\2",
    r"backbone\.fpn\.layer_blocks\.(\d+)\.(?:0\.)?(weight|bias)$": r"backbone.neck.smooth.\1.\2",
    r"backbone\.fpn\.extra_blocks\.": "backbone.neck.extra_blocks.",
    r"rpn\.head\.conv\.(weight|bias)$": r"rpn.head.conv.0.0.\1",
}
_RENAMED |= {rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.": f"roi_heads.mask_head.{i}.0." for i in range(4)}
"""Names of tensors in torchvision's present and former models (pattern) -> names here; all others are equal."""

_RENAMED_RETINANET = {rf"(head\.\w+_head\.conv)\.{2 * i}\.(weight|bias)$": rf"\1.{i}.0.\2" for i in range(4)}
"""Former names of RetinaNet's convolutions, which are present names in FCOS."""

_CLASS_LAYERS = {
    "roi_heads.box_predictor.cls_score": 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_predictor.mask_fcn_logits": 1,
    "head.classification_head.cls_logits": 1,
}
"""Layers with output channels for each class, and the number of these channels."""

_WITH_BACKGROUND = "roi_heads.box_predictor.cls_score"

_PARTS = {
    "backbone.body.": "backbone",
    "backbone.neck.extra_blocks.": "extra levels",
    "backbone.neck.": "neck",
    "rpn.": "RPN",
    "roi_heads.box_roi_pool.": "RoI pools",
    "roi_heads.mask_roi_pool.": "RoI pools",
    "roi_heads.auxiliary.": "auxiliary head",
    "roi_heads.box_head.": "box head",
    "roi_heads.box_predictor.cls_score.": "class logits",
    "roi_heads.box_predictor.bbox_pred.": "box deltas",
    "roi_heads.mask_predictor.mask_fcn_logits.": "mask logits",
    "roi_heads.mask_": "mask head",
    "head.classification_head.cls_logits.": "class logits",
    "head.classification_head.": "class head",
    "head.regression_head.": "box head",
}
"""Prefix of tensor names -> part of the detector in the report; the first that matches counts."""

_NOT_IN_TORCHVISION = {"RoI pools", "auxiliary head"}


class PartReport(NamedTuple):
    """How many tensors of one part of a detector were loaded."""

    part: str
    loaded: int
    """Number of tensors from the checkpoint."""
    initial: int
    """Number of tensors that keep their initialization."""
    note: str


@dataclass(frozen=True)
class LoadReport:
    """Which parts of a detector were loaded from a torchvision checkpoint; ``str()`` makes a table of it."""

    source: str
    """File or URL of the checkpoint."""
    parts: tuple[PartReport, ...]

    def __str__(self) -> str:
        rows = [("part", "loaded", "initial", "")]
        rows += [(part.part, str(part.loaded), str(part.initial), part.note) for part in self.parts]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
        return "\n".join([f"tensors loaded from {self.source}, and tensors that keep their initialization:", *lines])


def load_torchvision_weights(model: DetectionModel, detector: str, weights: str | Path) -> LoadReport:
    """Load the weights of a torchvision detector into the same detector of this library.

    With FPN all tensors must fit; other necks load those that they share with FPN: laterals and the 3x3 convolutions
    after the top-down path. The class layers are loaded if the checkpoint has COCO's 90 ids and the model 80 classes,
    or if both have the same number of classes; otherwise they keep their initialization.

    Args:
        model: detector of :func:`drfpn.build_detector`.
        detector: its name, a key of ``PUBLISHED``.
        weights: ``"torchvision"`` or a file (.pth, .safetensors) with the state dict of a torchvision detector.

    Raises:
        UserError: weights that cannot be downloaded or read, or do not fit; the model is not changed.
    """
    checkpoint = read_checkpoint(detector, weights)
    own = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    neck = model.backbone.neck
    one_stage = not model.roi_stages
    channels = _fpn_in_channels(model.backbone.body.channels, one_stage=one_stage)
    tensors = _rename(checkpoint, detector, levels=len(channels))
    notes: dict[str, str] = {}
    tensors, skipped = _select_classes(tensors, own, model.num_classes, notes)

    # the checkpoint must fit the model, whose neck is compared as if it were torchvision's FPN
    exact = type(neck) is FPN
    expected = _fpn_tensors(channels, model.backbone.out_channels, one_stage=one_stage)
    excluded = _NOT_IN_TORCHVISION if exact else _NOT_IN_TORCHVISION | {"neck"}
    expected |= {name: value for name, value in own.items() if _part_of(name) not in excluded}
    for name in skipped:
        del expected[name]
    check_state_dict(expected, tensors, f"this '{detector}'", checkpoint.source)
    if checkpoint.zero_eps:
        tensors |= _fold_zero_eps(model.backbone, tensors)
        notes["backbone"] = "BatchNorm weights scaled to have the effect of eps = 0, as in torchvision"
    if detector == "retinanet":
        notes["extra levels"] = "P6 from the neck's coarsest level, ReLU before P7, as in torchvision"

    loaded = {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
    if unused := len(tensors) - len(loaded):
        notes["neck"] = f"{unused} tensors of FPN do not exist in {type(neck).__name__}"
    model.load_state_dict(loaded, strict=False)
    return LoadReport(checkpoint.source, _report(own, loaded, notes))


def _rename(checkpoint: Checkpoint, detector: str, levels: int) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names that they have here."""
    patterns = _RENAMED | (_RENAMED_RETINANET if detector == "retinanet" else {})
    tensors = {}
    for name, value in checkpoint.tensors.items():
        pattern = next((pattern for pattern in patterns if re.match(pattern, name)), None)
        renamed = re.sub("^" + pattern, patterns[pattern], name) if pattern else name
        if not renamed.endswith("num_batches_tracked"):
            tensors[renamed.replace(f"neck.lateral.{levels - 1}.", "neck.top.")] = value
    return tensors


def _select_classes(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], num_classes: int, notes: dict[str, str]
) -> tuple[dict[str, Tensor], set[str]]:
    """Select the channels of our classes in the class layers of a checkpoint.

    Args:
        tensors: checkpoint with the names of this library.
        own: tensors of the model.
        num_classes: number of foreground classes of the model.
        notes: receives a note for each class layer.

    Returns:
        The tensors to load, and the names of those of class layers that cannot be loaded.
    """
    selected = dict(tensors)
    skipped: set[str] = set()
    layers = [name for name in tensors if name.rpartition(".")[0] in _CLASS_LAYERS and name in own]
    if not layers:
        return selected, skipped
    checkpoint_classes = _count_classes(tensors, own, layers[0], num_classes)
    labels = _torchvision_labels(checkpoint_classes - 1, num_classes)
    for name in layers:
        layer = name.rpartition(".")[0]
        per_class = _CLASS_LAYERS[layer]
        rows = tensors[name].shape[0]
        if labels is None:
            skipped.add(name)
            del selected[name]
            note = f"{checkpoint_classes - 1} classes in the checkpoint, {num_classes} here"
        elif rows % (checkpoint_classes * per_class) == 0:
            background = [0] if layer == _WITH_BACKGROUND else []
            grouped = tensors[name].unflatten(0, (-1, checkpoint_classes, per_class))
            selected[name] = grouped[:, background + labels].flatten(0, 2)
            some = num_classes < checkpoint_classes - 1
            note = f"{num_classes} of {checkpoint_classes - 1} ids" if some else f"all {num_classes}"
        notes[_part_of(name)] = note
    return selected, skipped


def _count_classes(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str, num_classes: int) -> int:
    """Return the number of classes of a checkpoint, including the background."""
    scores = tensors.get(f"{_WITH_BACKGROUND}.weight")
    if scores is not None:
        return len(scores)
    anchors = len(own[name]) // num_classes
    return max(1, len(tensors[name]) // anchors)


def _torchvision_labels(checkpoint_classes: int, num_classes: int) -> list[int] | None:
    """Return the label in the checkpoint of each of our labels 1..``num_classes``, or ``None`` if it is unknown."""
    if checkpoint_classes == num_classes:
        return list(range(1, num_classes + 1))
    if (checkpoint_classes, num_classes) == (COCO[-1], len(COCO)):
        return COCO
    return None


def _fpn_in_channels(channels: list[int], *, one_stage: bool) -> list[int]:
    """Return the channels of the maps that torchvision's FPN takes, also where our neck starts at C3."""
    finer = [] if one_stage or len(channels) == 4 else [channels[0] // 2]  # a ResNet doubles them from stage to stage
    return [*finer, *channels]


def _fpn_tensors(channels: list[int], width: int, *, one_stage: bool) -> dict[str, Tensor]:
    """Return names and shapes (on the meta device) of the tensors of torchvision's FPN, under our names."""
    with torch.device("meta"):
        fpn = FPN(channels, width, ExtraConvs(width, width) if one_stage else None)
    return {f"backbone.neck.{name}": value for name, value in fpn.state_dict().items()}


def _fold_zero_eps(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return BatchNorm weights that have with each layer's eps the effect of the checkpoint's with eps = 0.

    Folded into the weights, unlike an attribute eps, the difference is saved with them.
    """
    scales = {}
    for name, module in backbone.get_submodule("body").named_modules(prefix="backbone.body"):
        if isinstance(module, _BatchNorm):
            variance = tensors[f"{name}.running_var"].double()
            scale = tensors[f"{name}.weight"]
            scales[f"{name}.weight"] = (scale * ((variance + module.eps) / variance).sqrt()).to(scale.dtype)
    return scales


def _report(
    own: Mapping[str, Tensor], loaded: Mapping[str, Tensor], notes: Mapping[str, str]
) -> tuple[PartReport, ...]:
    parts: dict[str, list[bool]] = {}
    for name in own:
        parts.setdefault(_part_of(name), []).append(name in loaded)
    return tuple(
        PartReport(part, sum(are_loaded), len(are_loaded) - sum(are_loaded), notes.get(part, ""))
        for part, are_loaded in parts.items()
    )


def _part_of(name: str) -> str:
    return next((part for prefix, part in _PARTS.items() if name.startswith(prefix)), name)
