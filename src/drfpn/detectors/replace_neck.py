"""Another pyramid for a detector that is there already."""

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import nn

from drfpn.detectors.options import check_keywords
from drfpn.detectors.upgrade_neck import evaluated, memory_format, upgrade
from drfpn.necks import NECKS, Neck
from drfpn.utils.errors import UserError, did_you_mean

Model = TypeVar("Model", bound=nn.Module)


def replace_neck(
    model: Model, neck: str | Callable[..., nn.Module] = "drfpn", *, keep: bool = False, **options: Any
) -> Model:
    """Swap the pyramid of a detector in place and return it; every other weight stays.

    Works for torchvision's Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS with a ResNet, for whatever has a
    ``backbone.fpn`` of torchvision's kind, and for the detectors of this library (``backbone.neck``)::

        model = replace_neck(torchvision.models.detection.fasterrcnn_resnet50_fpn(weights="DEFAULT"), keep=True)

    Args:
        model: the detector.
        neck: a name of ``NECKS``, such as ``"drfpn"``, or a class
            ``(in_channels, out_channels, extra_blocks, **options)``.
        keep: load the weights of the old pyramid into the new one, as far as it has a place for them. From FPN to DRFPN
            (``convention="bounded"``, the default), to PAFPN with ``residual=True`` and to ``"fpn_scale"`` the levels
            are then equal bit for bit, so the model detects what it did and is trained on from there; a sentence on
            stderr says so, or what is lost. ``False`` begins with an untrained pyramid.
        options: keywords of the pyramid, such as ``convention="release"``.

    Raises:
        UserError: a model without such a pyramid, an unknown neck or option, levels that do not halve, or ``keep`` with
            a class that is no pyramid of this library.
    """
    if isinstance(neck, str) and neck not in NECKS:
        raise UserError(f"Unknown pyramid '{neck}': choose one of {', '.join(NECKS)}.{did_you_mean(neck, NECKS)}")
    make = NECKS[neck] if isinstance(neck, str) else neck
    backbone: Any = getattr(model, "backbone", None)
    place = "fpn" if hasattr(backbone, "fpn") else "neck"
    fpn: Any = getattr(backbone, place, None)
    if isinstance(fpn, Neck):  # one of ours
        in_channels, out_channels = fpn.in_channels, fpn.out_channels
        extra_blocks = fpn.extra_blocks or fpn.coarser.instead_of
    elif hasattr(fpn, "inner_blocks"):
        in_channels = [block[0].in_channels for block in fpn.inner_blocks]
        out_channels = fpn.layer_blocks[0][0].out_channels
        extra_blocks = fpn.extra_blocks
    else:
        raise UserError(
            f"{type(model).__name__} has no torchvision pyramid at 'backbone.fpn', nor one of this library at "
            "'backbone.neck', that could be replaced."
        )
    if getattr(fpn, "hands_on_laterals", False):
        raise UserError(
            "This detector's consistent supervision needs the laterals of AugFPN, so its pyramid cannot be replaced: "
            "build it with consistent_supervision=0."
        )
    check_keywords(options, f"option of the pyramid '{getattr(make, '__name__', neck)}'", make)
    like = next(fpn.parameters())
    maps = _small_maps(backbone, like)
    new = make(in_channels, out_channels, extra_blocks, **options)
    layout = memory_format(fpn)
    new = new.to(device=like.device, dtype=like.dtype, memory_format=layout).train(model.training)  # type: ignore[call-overload]
    _check_same_levels(fpn, new, maps)
    if keep:
        if not isinstance(new, Neck):
            raise UserError(f"keep=True needs a pyramid of this library, and {type(new).__name__} is none.")
        done = upgrade(fpn, new)
        print(f"{done}, so the model detects what it did." if done.exact else f"{done}.", file=sys.stderr)
    setattr(backbone, place, new)
    return model


def _small_maps(backbone: nn.Module, like: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pass a small image through the backbone: what is wrong with its levels is better said now than in training."""
    maps: dict[str, torch.Tensor] = evaluated(backbone, backbone.get_submodule("body"), like.new_zeros(1, 3, 64, 64))
    sizes = {name: m.shape[-1] for name, m in maps.items()}
    names = list(sizes)
    for fine, coarse in pairwise(names):
        if sizes[fine] != 2 * sizes[coarse]:
            raise UserError(
                f"Level '{coarse}' of the backbone has stride {64 // sizes[coarse]}, but twice the stride of level "
                f"'{fine}' ({64 // sizes[fine]}) is needed: pyramids join levels that halve."
            )
    return maps


def _check_same_levels(old: nn.Module, new: nn.Module, maps: dict[str, torch.Tensor]) -> None:
    """Raise ``UserError`` where the new pyramid gives other levels than the old one, which the heads are made for."""
    before, after = (evaluated(pyramid, pyramid, dict(maps)) for pyramid in (old, new))
    shapes = [[tuple(level.shape[1:]) for level in levels.values()] for levels in (before, after)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{type(new).__name__} gives {len(shapes[1])} levels of (channels, height, width) {shapes[1]} where "
            f"{type(old).__name__} gives {len(shapes[0])}, {shapes[0]}, for which the detector's heads and anchors are "
            "made: build a detector with that pyramid by build_detector."
        )
