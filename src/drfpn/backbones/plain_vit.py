"""Plain ViTs of timm as backbones: one map of stride 16, from which the neck makes its levels (ViTDet)."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from drfpn.backbones.timm import (
    BACKBONES,
    PLAIN_BACKBONES,
    Weights,
    check_has_pypi_weights,
    create_feature_extractor,
    load_backbone_weights,
    mean_and_std,
)
from drfpn.utils.errors import UsageError, UserError, did_you_mean
from drfpn.utils.weights import read_weights

STRIDE = 16


class PlainBackbone(nn.Module):
    """A plain ViT of timm with one feature map of stride 16, returned once for each level that a neck makes from it.

    The maps have the names of C2 to C5 in :class:`drfpn.backbones.TimmBackbone`; :class:`drfpn.necks.SimpleFPN` makes
    levels of strides 4 to 32 from them.

    The map is the output of the last block, before the final norm. Images may have any size: position embeddings are
    interpolated, images are padded to whole patches. Attention is global in all blocks (ViTDet uses windows in most),
    so its cost is quadratic in the number of pixels.

    Args:
        name: a short name of ``PLAIN_BACKBONES`` or a timm model name.
        weights: ``None`` for random initialization; ``True`` for timm's default weights, which are downloaded; a file
            (.safetensors, .pth) with a state dict under timm's names.
        frozen_stages: parts that are not trained: -1 for none, 0 for the patch and position embeddings, 1 to 4 for
            these and the first one to four quarters of the blocks.
        norm_eval: not used, as a ViT has no BatchNorm.
        levels: number of levels that a neck makes from the map: 4 for strides 4 to 32, 3 for 8 to 32.

    Attributes:
        names: names of the maps.
        channels: channels of the maps.
        strides: strides of the maps in pixels, 16 for each.
        mean, std: mean and standard deviation to normalize RGB images in [0, 1] with.

    Raises:
        UsageError: an unknown model, one that is no plain ViT with patches of 16 pixels, or weights that it does not
            have.
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
        timm_name = PLAIN_BACKBONES.get(name, BACKBONES.get(name, name))
        if not timm.is_model(timm_name) or not _is_plain_vit(timm_name):
            known = [*PLAIN_BACKBONES, *timm.list_models("vit_*patch16*")]
            hint = "" if timm.is_model(timm_name) else did_you_mean(name, known)
            raise UsageError(
                f"'{name}' is no plain ViT of timm with patches of {STRIDE} pixels, such as vit_s or vit_b, which the "
                f"neck simple_fpn needs: with another backbone use fpn or drfpn.{hint}"
            )
        if not -1 <= frozen_stages <= 4:
            raise UsageError(f"`frozen_stages` must be -1 (none) to 4 (all), not {frozen_stages}.")
        if weights == "pypi":
            check_has_pypi_weights(timm_name)
        self.name = timm_name
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.body: Any = create_feature_extractor(
            timm_name, pretrained=weights is True, out_indices=1, dynamic_img_size=True, dynamic_img_pad=True
        )
        self.names = [str(i) for i in range(4 - levels, 4)]
        self.strides = (STRIDE,) * levels
        self.channels: list[int] = self.body.feature_info.channels() * levels
        self.mean, self.std = mean_and_std(timm_name)
        if weights is not None and not isinstance(weights, bool):
            load_backbone_weights(self.body.model, read_weights(Path(weights)), timm_name)
        blocks = self.body.model.blocks
        trained = {id(p) for block in blocks[len(blocks) * max(frozen_stages, 0) // 4 :] for p in block.parameters()}
        for parameter in self.body.parameters():
            parameter.requires_grad_(frozen_stages < 0 or id(parameter) in trained)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to their feature map (N, channels[0], H / 16, W / 16), once under each name."""
        (m,) = self.body(image)
        return dict.fromkeys(self.names, m)


def _is_plain_vit(name: str) -> bool:
    """Return whether all feature maps of a timm model have stride 16; it is built on the meta device."""
    try:
        with torch.device("meta"):
            return set(create_feature_extractor(name).feature_info.reduction()) == {STRIDE}
    except UserError:
        return False
