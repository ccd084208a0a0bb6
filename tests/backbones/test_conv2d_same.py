import copy

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.testing import assert_close

from drfpn.backbones.conv2d_same import SameConv2d, convert_same_conv2d


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_numbers_equal_timms(kernel, stride, dilation) -> None:
    theirs = nn.Sequential(Conv2dSame(4, 6, kernel, stride, dilation=dilation, groups=2))
    ours = copy.deepcopy(theirs)
    convert_same_conv2d(ours)
    assert isinstance(ours[0], SameConv2d)
    for size in ((7, 7), (8, 9), (12, 10)):
        x = torch.randn(2, 4, *size)
        assert_close(ours(x), theirs(x))


def test_weights_keep_their_names() -> None:
    model = timm.create_model("tf_efficientnet_lite0", features_only=True)
    before = model.state_dict()
    convert_same_conv2d(model)
    assert not any(isinstance(module, Conv2dSame) for module in model.modules())
    assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
