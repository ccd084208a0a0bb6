"""Peak memory of a detector."""

from functools import partial

import pytest
import torch
from torch import nn

from drfpn.ablations.peak_memory import peak_memory
from tests.processes import forkserver

MIB = 2**20 // 4
"""Numbers of float32 in a MiB."""


class Hoarder(nn.Module):
    """A detector that takes a MiB for each row of an image in training, and half of that in inference."""

    def __init__(self, mib: float) -> None:
        super().__init__()
        self.mib = mib
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images, targets) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * self.fill(self.mib, images)}

    def detect(self, images) -> torch.Tensor:
        return self.fill(self.mib / 2, images)

    def fill(self, mib: float, images) -> torch.Tensor:
        return torch.ones(int(mib * len(images) * images[0].shape[1] * MIB)).sum()


@pytest.mark.slow
def test_memory_is_what_a_batch_needs_more_than_a_model_that_stands_ready(monkeypatch) -> None:
    monkeypatch.setattr("drfpn.ablations.peak_memory.get_context", lambda method: forkserver)
    peak = peak_memory(partial(Hoarder, 0.5), (300, 8), 2, torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not tell the peak of a process")
    assert peak.training == pytest.approx(300 - 32, rel=0.2)  # 64 rows stood ready
    assert peak.inference == pytest.approx(150, rel=0.2)
