"""``replace_neck``: replaces the neck of an existing detector."""

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import nn

from drfpn.detectors.augfpn import BackboneWithLaterals
from drfpn.detectors.options import check_options
from drfpn.detectors.upgrade_neck import memory_format_of, run_in_eval_mode, upgrade_neck
from drfpn.necks import NECKS, Neck
from drfpn.utils.errors import UsageError, UserError, did_you_mean

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


def replace_neck(
    model: Model, neck: str | Callable[..., nn.Module] = "drfpn", *, keep: bool = False, **options: Any
) -> Model:
    """Replace the neck of a detector in place and return the detector; all other weights are kept.

    Works for torchvision's Faster, Mask and Keypoint R-CNN, RetinaNet and FCOS with a ResNet, for other models with a
    ``backbone.fpn`` like torchvision's, and for the detectors of this library (``backbone.neck``)::

        model = replace_neck(torchvision.models.detection.fasterrcnn_resnet50_fpn(weights="DEFAULT"), keep=True)

    The number of classes does not change. (``num_classes`` of torchvision's two-stage detectors counts the background
    too, that of :func:`drfpn.build_detector` does not.)

    Args:
        model: the detector.
        neck: a key of ``NECKS``, such as ``"drfpn"``, or a class called as
            ``neck(in_channels, out_channels, extra_blocks, **options)``.
        keep: initialize the new neck with the weights that it shares with the old one. From FPN to DRFPN
            (``convention="bounded"``, the default), to PAFPN with ``residual=True`` and to ``"fpn_scale"`` the output
            levels are then bitwise equal, so the model detects as before and can be fine-tuned; otherwise a warning is
            logged. ``False``: the new neck is initialized at random.
        options: options of the neck, such as ``convention="release"``.

    Raises:
        UsageError: an unknown neck or option, or ``keep`` with a class that is not a :class:`drfpn.necks.Neck`.
        UserError: a model without such a neck, backbone levels whose strides do not double, or a neck with other output
            levels.
    """
    if isinstance(neck, str) and neck not in NECKS:
        raise UsageError(f"Unknown neck '{neck}': choose one of {', '.join(NECKS)}.{did_you_mean(neck, NECKS)}")
    make = NECKS[neck] if isinstance(neck, str) else neck
    backbone: Any = getattr(model, "backbone", None)
    attribute = "fpn" if hasattr(backbone, "fpn") else "neck"
    old: Any = getattr(backbone, attribute, None)
    if isinstance(old, Neck):
        in_channels, out_channels = old.in_channels, old.out_channels
        extra_blocks = old.given_extra_blocks
    elif hasattr(old, "inner_blocks"):
        in_channels = [block[0].in_channels for block in old.inner_blocks]
        out_channels = old.layer_blocks[0][0].out_channels
        extra_blocks = old.extra_blocks
    else:
        raise UserError(
            f"{type(model).__name__} has neither an FPN of torchvision at 'backbone.fpn' nor a neck of this library at "
            "'backbone.neck'."
        )
    if isinstance(backbone, BackboneWithLaterals):
        raise UserError(
            "The consistent supervision of this detector needs the laterals of AugFPN, so its neck cannot be replaced: "
            "build the detector with `consistent_supervision=0`."
        )
    check_options(options, f"option of the neck '{getattr(make, '__name__', neck)}'", make)
    parameter = next(old.parameters())
    maps = _backbone_maps(backbone, parameter)
    new: Any = make(in_channels, out_channels, extra_blocks, **options)
    new = new.to(device=parameter.device, dtype=parameter.dtype, memory_format=memory_format_of(old))
    new = new.train(model.training)
    _check_same_levels(old, new, maps)
    if keep:
        if not isinstance(new, Neck):
            raise UsageError(f"`keep=True` needs a neck of this library, and {type(new).__name__} is not one.")
        report = upgrade_neck(old, new)
        if report.exact:
            logger.info("%s, so the model detects the same as before.", report)
        else:
            logger.warning("%s.", report)
    setattr(backbone, attribute, new)
    return model


def _backbone_maps(backbone: nn.Module, like: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the backbone's maps of a small image, after a check that each has half the size of the one before it.

    Args:
        backbone: has the attribute ``body``.
        like: a tensor on the backbone's device and of its dtype.
    """
    image = like.new_zeros(1, 3, 64, 64)
    maps: dict[str, torch.Tensor] = run_in_eval_mode(backbone, backbone.get_submodule("body"), image)
    sizes = {name: m.shape[-1] for name, m in maps.items()}
    for fine, coarse in pairwise(sizes):
        if sizes[fine] != 2 * sizes[coarse]:
            raise UserError(
                f"Level '{coarse}' of the backbone has stride {64 // sizes[coarse]}, but twice the stride of level "
                f"'{fine}' ({64 // sizes[fine]}) is needed."
            )
    return maps


def _check_same_levels(old: nn.Module, new: nn.Module, maps: dict[str, torch.Tensor]) -> None:
    """Check that two necks have equal output levels, for which the heads and anchors are made."""
    before, after = (run_in_eval_mode(neck, neck, dict(maps)) for neck in (old, new))
    shapes = [[tuple(level.shape[1:]) for level in levels.values()] for levels in (before, after)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{type(new).__name__} has {len(shapes[1])} levels of (channels, height, width) {shapes[1]}, but the "
            f"detector's heads and anchors are made for the {len(shapes[0])} levels of {type(old).__name__}, "
            f"{shapes[0]}: build a detector with that neck with build_detector."
        )
