"""The weights of a torchvision detector in one of ours: names, classes, and a table of what became of each part."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from drfpn.detectors.published_weights import COCO, Given, read_given
from drfpn.necks import FPN, ExtraConvs
from drfpn.utils.weights import check_fit

_NAMES = {
    r"backbone\.body\.": "backbone.body.body.",
    r"backbone\.fpn\.inner_blocks\.(\d+)\.(?:0\.)?(weight|bias)$": r"backbone.neck.lateral.\1.\2",
    r"backbone\.fpn\.layer_blocks\.(\d+)\.(?:0\.)?(weight|bias)$": r"backbone.neck.smooth.\1.\2",
    r"backbone\.fpn\.extra_blocks\.": "backbone.neck.extra_blocks.",
    r"rpn\.head\.conv\.(weight|bias)$": r"rpn.head.conv.0.0.\1",
}
_NAMES |= {rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.": f"roi_heads.mask_head.{i}.0." for i in range(4)}
"""Name in torchvision, older or newer (pattern) -> name here; all others are the same."""

_RETINANET_NAMES = {rf"(head\.\w+_head\.conv)\.{2 * i}\.(weight|bias)$": rf"\1.{i}.0.\2" for i in range(4)}
"""Older names of RetinaNet's convolutions; newer ones of FCOS's look the same."""

_CLASS_LAYERS = {
    "roi_heads.box_predictor.cls_score": 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_predictor.mask_fcn_logits": 1,
    "head.classification_head.cls_logits": 1,
}
"""Layers with channels for each class, and how many."""

_WITH_BACKGROUND = "roi_heads.box_predictor.cls_score"

_PARTS = {
    "backbone.body.": "backbone",
    "backbone.neck.extra_blocks.": "extra levels",
    "backbone.neck.": "pyramid",
    "rpn.": "region proposals",
    "roi_heads.box_roi_pool.": "region pools",
    "roi_heads.mask_roi_pool.": "region pools",
    "roi_heads.auxiliary.": "auxiliary head",
    "roi_heads.box_head.": "box head",
    "roi_heads.box_predictor.cls_score.": "classes",
    "roi_heads.box_predictor.bbox_pred.": "box deltas",
    "roi_heads.mask_predictor.mask_fcn_logits.": "mask classes",
    "roi_heads.mask_": "mask head",
    "head.classification_head.cls_logits.": "classes",
    "head.classification_head.": "class head",
    "head.regression_head.": "box head",
}
"""Beginning of a name (first that fits) -> part in the table."""

_OURS = {"region pools", "auxiliary head"}
"""Parts that torchvision has no weights for."""


class Row(NamedTuple):
    """What became of one part of the detector."""

    part: str
    taken: int
    """Tensors that hold the weights given."""
    left: int
    """Tensors that are as they were initialised."""
    note: str


@dataclass(frozen=True)
class Adopted:
    """What was taken from a torchvision checkpoint and what was not; printed as a table."""

    source: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        cells = [("part", "taken", "left", ""), *((r.part, str(r.taken), str(r.left), r.note) for r in self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in cells]
        return "\n".join([f"tensors taken from {self.source}, or left as initialised:", *lines])


def adopt(model: nn.Module, detector: str, num_classes: int, weights: str | Path) -> Adopted:
    """Load the weights of a torchvision detector into one of ours of the same kind.

    With FPN every tensor must fit; another pyramid takes what it has in common with FPN: laterals and the 3x3 behind
    the top-down path. The classes are COCO's 80 where the checkpoint has COCO's 90 ids, or the checkpoint's own where
    their number is the same; else the layers of the classes stay as they are.

    Args:
        model: what ``build_detector`` made.
        detector: its kind, a key of ``PUBLISHED``.
        num_classes: its foreground classes.
        weights: ``"torchvision"`` or a file (.pth, .safetensors) with a torchvision state dict.

    Raises:
        UserError: weights that cannot be had or do not fit; the model is then as it was.
    """
    given = read_given(detector, weights)
    own = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    backbone: Any = model.backbone
    channels = _channels_there(backbone.body.channels, one_stage=hasattr(model, "head"))
    tensors = _with_our_names(given, detector, levels=len(channels))
    notes: dict[str, str] = {}
    tensors, remade = _with_our_classes(tensors, own, num_classes, notes)

    # another pyramid takes what fits, all else must fit: it is compared with ours, the pyramid's own part with FPN's
    exact = type(backbone.neck) is FPN
    wanted = _fpn(channels, backbone.out_channels, one_stage=hasattr(model, "head"))
    left_out = _OURS if exact else _OURS | {"pyramid"}
    wanted |= {name: value for name, value in own.items() if _part_of(name) not in left_out}
    for name in remade:
        del wanted[name]
    check_fit(wanted, tensors, f"this '{detector}'", given.source)
    if given.zero_eps:
        tensors |= _scales_of_zero_eps(model, tensors)
        notes["backbone"] = "scales such that BatchNorm counts as if its eps were 0, as in torchvision"
    if detector == "retinanet":
        notes["extra levels"] = "P6 from the pyramid's top level, ReLU before P7, as in torchvision"

    taken = {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
    if unused := len(tensors) - len(taken):
        notes["pyramid"] = f"{unused} tensors of FPN have no place in {type(backbone.neck).__name__}"
    model.load_state_dict(taken, strict=False)
    return Adopted(given.source, _table(own, taken, notes))


def _with_our_names(given: Given, detector: str, levels: int) -> dict[str, Tensor]:
    names = _NAMES | (_RETINANET_NAMES if detector == "retinanet" else {})
    tensors = {}
    for name, value in given.tensors.items():
        pattern = next((pattern for pattern in names if re.match(pattern, name)), None)
        ours = re.sub("^" + pattern, names[pattern], name) if pattern else name
        if not ours.endswith("num_batches_tracked"):
            tensors[ours.replace(f"neck.lateral.{levels - 1}.", "neck.top.")] = value
    return tensors


def _with_our_classes(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], num_classes: int, notes: dict[str, str]
) -> tuple[dict[str, Tensor], set[str]]:
    """Choose the channels of our classes; also return the names of those layers that no class can be chosen for."""
    chosen_tensors = dict(tensors)
    remade: set[str] = set()
    layers = [name for name in tensors if name.rpartition(".")[0] in _CLASS_LAYERS and name in own]
    if not layers:
        return chosen_tensors, remade
    classes = _classes_in(tensors, own, layers[0], num_classes)
    labels = _labels(classes - 1, num_classes)
    for name in layers:
        layer = name.rpartition(".")[0]
        per_class = _CLASS_LAYERS[layer]
        rows = tensors[name].shape[0]
        if labels is None:
            remade.add(name)
            del chosen_tensors[name]
            note = f"re-made: {classes - 1} classes there, {num_classes} here"
        elif rows % (classes * per_class) == 0:
            background = [0] if layer == _WITH_BACKGROUND else []
            grouped = tensors[name].unflatten(0, (-1, classes, per_class))
            chosen_tensors[name] = grouped[:, background + labels].flatten(0, 2)
            note = f"{num_classes} of {classes - 1} ids" if num_classes < classes - 1 else f"all {num_classes}"
        notes[_part_of(name)] = note
    return chosen_tensors, remade


def _classes_in(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str, num_classes: int) -> int:
    """Return how many classes a checkpoint has, the background counted."""
    scores = tensors.get(f"{_WITH_BACKGROUND}.weight")
    if scores is not None:
        return len(scores)
    anchors = len(own[name]) // num_classes
    return max(1, len(tensors[name]) // anchors)


def _labels(given: int, wanted: int) -> list[int] | None:
    """Return torchvision's label for each of our labels 1..``wanted``."""
    if given == wanted:
        return list(range(1, wanted + 1))
    if (given, wanted) == (COCO[-1], len(COCO)):
        return COCO
    return None


def _channels_there(channels: list[int], *, one_stage: bool) -> list[int]:
    """Return the channels of the maps that torchvision's FPN takes, also where our pyramid begins at C3."""
    finer = [] if one_stage or len(channels) == 4 else [channels[0] // 2]  # a ResNet doubles them
    return [*finer, *channels]


def _fpn(channels: list[int], width: int, *, one_stage: bool) -> dict[str, Tensor]:
    """Return names and shapes of torchvision's FPN, in whose place the pyramid stands."""
    with torch.device("meta"):
        fpn = FPN(channels, width, ExtraConvs(width, width) if one_stage else None)
    return {f"backbone.neck.{name}": value for name, value in fpn.state_dict().items()}


def _scales_of_zero_eps(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return scales that give with each layer's eps what the tensors' scales give with none.

    Held in the scales rather than in eps, the difference travels with the weights wherever they are loaded.
    """
    scales = {}
    for name, module in model.get_submodule("backbone.body").named_modules(prefix="backbone.body"):
        if isinstance(module, _BatchNorm):
            variance = tensors[f"{name}.running_var"].double()
            scale = tensors[f"{name}.weight"]
            scales[f"{name}.weight"] = (scale * ((variance + module.eps) / variance).sqrt()).to(scale.dtype)
    return scales


def _table(own: Mapping[str, Tensor], taken: Mapping[str, Tensor], notes: Mapping[str, str]) -> tuple[Row, ...]:
    parts: dict[str, list[bool]] = {}
    for name in own:
        parts.setdefault(_part_of(name), []).append(name in taken)
    return tuple(Row(part, sum(are), len(are) - sum(are), notes.get(part, "")) for part, are in parts.items())


def _part_of(name: str) -> str:
    return next((part for beginning, part in _PARTS.items() if name.startswith(beginning)), name)
