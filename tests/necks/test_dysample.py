import pytest
import torch
from torch import nn

from drfpn.necks import FPN, DySample
from drfpn.necks.layers.upsamplers import DySampleUpsampler
from drfpn.utils.errors import UsageError

R50 = (256, 512, 1024, 2048)
both = pytest.mark.parametrize("dynamic_scope", [False, True], ids=["dysample", "dysample+"])


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("dynamic_scope", "parameters"), [(False, 8_224), (True, 16_416)])
def test_the_parameters_are_those_of_the_paper(dynamic_scope, parameters) -> None:
    with torch.device("meta"):
        assert size(DySampleUpsampler(256, dynamic_scope=dynamic_scope)) == parameters
        assert size(DySample(R50, dynamic_scope=dynamic_scope)) - size(FPN(R50)) == 3 * parameters


def test_channels_must_be_a_multiple_of_the_groups() -> None:
    with pytest.raises(UsageError, match="a multiple of its 4 groups, not 10"):
        DySample((4, 6), 10)
