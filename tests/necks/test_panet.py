import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from drfpn import FPN, PAFPN
from drfpn.necks import PANet

C = (4, 6, 8, 10)


def test_it_has_the_convolutions_of_pafpn_and_six_norms() -> None:
    r50 = (256, 512, 1024, 2048)
    with torch.device("meta"):
        panet, pafpn = PANet(r50), PAFPN(r50)
    convs = [m for m in panet.modules() if isinstance(m, nn.Conv2d)]
    assert sum(p.numel() for m in convs for p in m.parameters()) == 6_884_864
    assert sum(p.numel() for p in pafpn.parameters()) == 6_884_864
    assert sum(p.numel() for p in panet.parameters()) == 6_884_864 + 6 * 2 * 256
    assert [m.num_groups for m in panet.modules() if isinstance(m, nn.GroupNorm)] == [32] * 6


@pytest.mark.parametrize("rounded_up", [True, False])
def test_each_step_reads_the_finer_output_level(rounded_up, pyramid_maps) -> None:
    maps = pyramid_maps(C, 37, 50, rounded_up=rounded_up)
    panet, fpn = PANet(C, 16), FPN(C, 16)
    fpn.load_state_dict(panet.state_dict(), strict=False)
    p = fpn(maps)
    expected = [p[0]]
    for step, coarse in zip(panet.bottom_up.steps, p[1:], strict=True):
        height, width = coarse.shape[-2:]
        down = F.conv2d(expected[-1], step.down.weight, step.down.bias, stride=2, padding=1)[..., :height, :width]
        merged = coarse + F.group_norm(down, 2).relu()
        smooth = F.conv2d(merged, step.smooth.weight, step.smooth.bias, padding=1)
        expected.append(F.group_norm(smooth, 2).relu())
    assert_close(panet(maps), expected)
