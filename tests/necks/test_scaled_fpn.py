import torch
import torch.nn.functional as F
from torch.testing import assert_close

from drfpn.necks.scaled_fpn import ScaledAdd


def test_the_learned_scale_multiplies_the_upsampled_map(pyramid_maps) -> None:
    fine, coarse = pyramid_maps((4, 4), 9, 14)
    step = ScaledAdd()
    with torch.no_grad():
        step.scale.fill_(0.3)
    assert_close(step(fine, coarse), fine + 0.3 * F.interpolate(coarse, size=(9, 14), mode="nearest"))
