"""Another pyramid for a detector that torchvision built."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import nn

from drfpn.detectors.options import check_keywords
from drfpn.errors import UserError, nearest
from drfpn.pyramids import PYRAMIDS, Pyramid

Model = TypeVar("Model", bound=nn.Module)


def replace_neck(model: Model, neck: str | Callable[..., nn.Module] = "drfpn", **options: Any) -> Model:
    """Swap the pyramid of a torchvision detector in place and return it; every other weight stays.

    Works for Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS with a ResNet, and for whatever has a
    ``backbone.fpn`` of torchvision's kind::

        model = replace_neck(torchvision.models.detection.fasterrcnn_resnet50_fpn(weights="DEFAULT"))

    Args:
        model: the detector.
        neck: a name of ``PYRAMIDS``, such as ``"drfpn"``, or a class
            ``(in_channels, out_channels, extra_blocks, **options)``.
        options: keywords of the pyramid, such as ``convention="release"``.

    Raises:
        UserError: a model without a torchvision pyramid, an unknown neck or option, or levels that do not halve.
    """
    if isinstance(neck, str) and neck not in PYRAMIDS:
        raise UserError(f"Unknown pyramid '{neck}': choose one of {', '.join(PYRAMIDS)}.{nearest(neck, PYRAMIDS)}")
    make = PYRAMIDS[neck] if isinstance(neck, str) else neck
    backbone: Any = getattr(model, "backbone", None)
    fpn: Any = getattr(backbone, "fpn", None)
    if isinstance(fpn, Pyramid):  # replaced before
        in_channels, out_channels = fpn.in_channels, fpn.out_channels
    elif hasattr(fpn, "inner_blocks"):
        in_channels = [block[0].in_channels for block in fpn.inner_blocks]
        out_channels = fpn.layer_blocks[0][0].out_channels
    else:
        raise UserError(f"{type(model).__name__} has no torchvision pyramid at 'backbone.fpn' that could be replaced.")
    check_keywords(options, f"option of the pyramid '{getattr(make, '__name__', neck)}'", make)
    like = next(fpn.parameters())
    _check_levels(backbone, like)
    new = make(in_channels, out_channels, fpn.extra_blocks, **options)
    backbone.fpn = new.to(device=like.device, dtype=like.dtype).train(model.training)
    return model


def _check_levels(backbone: nn.Module, like: torch.Tensor) -> None:
    """Pass a small image through the backbone: what is wrong with its levels is better said now than in training."""
    training = {module: module.training for module in backbone.modules()}  # layers may differ
    backbone.eval()
    with torch.no_grad():
        maps = backbone.get_submodule("body")(like.new_zeros(1, 3, 64, 64))
    for module, mode in training.items():
        module.training = mode
    sizes = {name: m.shape[-1] for name, m in maps.items()}
    names = list(sizes)
    for fine, coarse in pairwise(names):
        if sizes[fine] != 2 * sizes[coarse]:
            raise UserError(
                f"Level '{coarse}' of the backbone has stride {64 // sizes[coarse]}, but twice the stride of level "
                f"'{fine}' ({64 // sizes[fine]}) is needed: pyramids join levels that halve."
            )
