"""A plain backbone: a timm ViT with one map, for pyramids that make their levels from it."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from drfpn.backbones.timm import BACKBONES, PLAIN_BACKBONES, Weights, create_features, load_features, trained_with
from drfpn.utils.errors import UserError, did_you_mean
from drfpn.utils.weights import read_weights

STRIDE = 16


class PlainBackbone(nn.Module):
    """Turns an image into the one map of a ViT, of stride 16, handed on once for each level that is to be made of it.

    So names, channels and strides are those that :class:`drfpn.backbones.TimmBackbone` has, and the pyramid
    (:class:`drfpn.necks.SimpleFPN`) gives the levels these strides.

    The map is what the last block returns, before the final norm. Images may have any size: position embeddings
    are interpolated, images padded to whole patches. Attention is global in all blocks (ViTDet's is by windows in
    most), so its cost grows with the square of the image's area.

    Args:
        name: a short name of ``PLAIN_BACKBONES`` or a timm model name.
        weights: as of :class:`drfpn.backbones.TimmBackbone`, but for ``"pypi"``.
        frozen_stages: what does not learn: -1 nothing, 0 the embeddings of patches and positions, 1 to 4 also the
            first so many quarters of the blocks.
        norm_eval: without effect: a ViT has no BatchNorm.
        first_level: 2 for levels of strides 4 to 32, 3 for 8 to 32.

    Attributes:
        channels: of the maps.
        strides: of the levels that a pyramid makes of them, pixels.
        mean, std: what an RGB image in [0, 1] is to be normalised with.

    Raises:
        UserError: an unknown model, one that is no plain ViT with patches of 16, or weights that cannot be had.
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
        timm_name = PLAIN_BACKBONES.get(name, BACKBONES.get(name, name))
        if not timm.is_model(timm_name) or not _is_plain(timm_name):
            known = [*PLAIN_BACKBONES, *timm.list_models("vit_*patch16*")]
            hint = "" if timm.is_model(timm_name) else did_you_mean(name, known)
            raise UserError(
                f"'{name}' is no plain ViT of timm with patches of {STRIDE} pixels, such as vit_s or vit_b, which the "
                f"pyramid simple_fpn needs: with another backbone take fpn or drfpn.{hint}",
                exit_code=2,
            )
        if not -1 <= frozen_stages <= 4:
            raise UserError(f"frozen_stages must be -1 (none) to 4 (all), not {frozen_stages}.")
        if weights == "pypi":
            raise UserError(f"weights_backbone='pypi' holds the weights of lite0 only, not of '{name}'.")
        self.name = timm_name
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.body: Any = create_features(
            timm_name, fetch=weights is True, out_indices=1, dynamic_img_size=True, dynamic_img_pad=True
        )
        self.names = [str(i) for i in range(first_level - 2, 4)]
        self.strides = (4, 8, 16, 32)[first_level - 2 :]
        self.channels: list[int] = self.body.feature_info.channels() * len(self.names)
        self.mean, self.std = trained_with(timm_name)
        if weights is not None and not isinstance(weights, bool):
            load_features(self.body.model, timm_name, read_weights(Path(weights)))
        blocks = self.body.model.blocks
        learning = {id(p) for block in blocks[len(blocks) * max(frozen_stages, 0) // 4 :] for p in block.parameters()}
        for parameter in self.body.parameters():
            parameter.requires_grad_(frozen_stages < 0 or id(parameter) in learning)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Turn a batch (N, 3, H, W) into its map, once under each name."""
        (m,) = self.body(image)
        return dict.fromkeys(self.names, m)


def _is_plain(name: str) -> bool:
    """Return whether all maps of a timm model have stride 16; nothing is stored for it."""
    try:
        with torch.device("meta"):
            return set(create_features(name).feature_info.reduction()) == {STRIDE}
    except UserError:
        return False
