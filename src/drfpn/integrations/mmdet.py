"""Necks of this library in mmdetection 3: ``neck=dict(type='DRFPN', ...)`` in a config.

A config needs this module among its imports::

    custom_imports = dict(imports=['drfpn.integrations.mmdet'])
    model = dict(neck=dict(type='DRFPN'))  # with _base_ = '.../faster-rcnn_r50_fpn_1x_coco.py'
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.detectors.options import check_options
from drfpn.integrations.neck_weights import rename_mmdet_weights
from drfpn.necks import NECKS, ExtraConvs
from drfpn.necks.layers.extra_levels import ExtraPools
from drfpn.utils.choices import choose
from drfpn.utils.errors import UsageError
from drfpn.utils.packages import import_optional

MODELS = import_optional("mmdet.registry", feature="drfpn.integrations.mmdet").MODELS
BaseModule: Any = import_optional("mmengine.model", feature="drfpn.integrations.mmdet").BaseModule

# Arguments of mmdetection's FPN that necks of this library do not have, and the values at which they do nothing.
_WITHOUT_EFFECT: dict[str, Any] = {
    "no_norm_on_lateral": False,
    "conv_cfg": None,
    "norm_cfg": None,
    "act_cfg": None,
    "upsample_cfg": {"mode": "nearest"},
}
_SOURCES = {True: "input", "on_input": "input", "on_output": "output"}


@MODELS.register_module()
class FeaturePyramid(BaseModule):
    """A neck of this library with the arguments of mmdetection's ``FPN``.

    Checkpoints of detectors with mmdetection's ``FPN`` or ``PAFPN``, and the DRFPN authors' checkpoints
    (``convention='release'``), are loaded by their parameters' names. A DRFPN with its default options that is loaded
    from a detector with an FPN computes the same detections, bit for bit, until it is trained.

    Args:
        in_channels: channels of all maps of the backbone, finest first.
        out_channels: channels of every output level.
        num_outs: number of output levels.
        start_level: index of the first map that is used.
        end_level: index of the last map that is used; -1 for the last.
        add_extra_convs: map that further levels are made from by 3x3 convolutions: ``'on_input'`` or true for the last
            map of the backbone, ``'on_output'`` for the last level of the neck; false for max pooling.
        relu_before_extra_convs: whether further levels but the first are made behind a ReLU.
        neck: name of the neck in :data:`drfpn.necks.NECKS`.
        init_cfg: ``None`` keeps the neck's own initialization.
        **options: options of the neck, such as ``convention='paper'``.

    Raises:
        UsageError: an unknown neck or option, or an argument of ``FPN`` that necks of this library do not have.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        neck: str = "drfpn",
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for key in [key for key in options if key in _WITHOUT_EFFECT]:
            value = options.pop(key)
            if value != _WITHOUT_EFFECT[key]:
                raise UsageError(
                    f"`{key}` is {value!r}, expected {_WITHOUT_EFFECT[key]!r}: necks of drfpn do not have this "
                    "argument of mmdetection's FPN."
                )
        self.used_maps = _used_maps(len(in_channels), start_level, end_level)
        channels = list(in_channels[self.used_maps])
        count = num_outs - len(channels)
        if count < 0:
            raise UsageError(f"`num_outs` is {num_outs}, expected at least {len(channels)}, the number of maps used.")
        extra_blocks = _extra_levels(count, add_extra_convs, relu_before_extra_convs, channels[-1], out_channels)
        neck_class = choose("neck", neck, NECKS)
        check_options(options, f"option of the neck '{neck}'", neck_class)
        self.num_inputs = len(in_channels)
        self.neck = neck_class(channels, out_channels, extra_blocks, **options)
        self.register_load_state_dict_pre_hook(_rename_weights)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the output levels (N, out_channels, H, W), finest first, from all maps of the backbone."""
        if len(inputs) != self.num_inputs:
            raise UsageError(f"The neck was built for {self.num_inputs} maps but got {len(inputs)}.")
        return tuple(self.neck(tuple(inputs[self.used_maps])))


@MODELS.register_module()
class DRFPN(FeaturePyramid):
    """DRFPN as a neck of mmdetection; arguments as of :class:`FeaturePyramid`, options as of ``drfpn.necks.DRFPN``."""


def _used_maps(count: int, start_level: int, end_level: int) -> slice:
    stop = end_level + 1 if end_level >= 0 else count + end_level + 1
    if not 0 <= start_level < stop <= count:
        raise UsageError(
            f"`start_level` {start_level} and `end_level` {end_level} do not choose from {count} maps, expected "
            f"0 <= start_level <= end_level < {count}, or -1 for the last."
        )
    return slice(start_level, stop)


def _extra_levels(
    count: int, add_extra_convs: bool | str, relu: bool, in_channels: int, out_channels: int
) -> ExtraFPNBlock | None:
    """Return the block of the ``count`` levels behind the maps of the backbone; ``None`` for no such level."""
    if not count:
        return None
    if add_extra_convs is False:
        return ExtraPools(count)
    source = _SOURCES.get(add_extra_convs)
    if source is None:
        raise UsageError(
            f"`add_extra_convs` is {add_extra_convs!r}, expected 'on_input' (or True), 'on_output' or False."
        )
    if source == "input":
        return ExtraConvs(in_channels, out_channels, "input", relu, count)
    return ExtraConvs(out_channels, out_channels, "output", relu, count)


def _rename_weights(module: FeaturePyramid, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    rename_mmdet_weights(state_dict, prefix, module.neck)
