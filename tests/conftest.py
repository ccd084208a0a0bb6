from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from drfpn.utils.hub import download_weights
from tests.hub.fake_hub import TOKEN, FakeHub, serve


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random numbers, whichever tests run before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real images, ``coco`` and ``voc``, and of the numbers of the authors' network, ``golden``."""
    return Path(__file__).with_name("assets")


@pytest.fixture
def pyramid_maps() -> Callable[..., list[Tensor]]:
    """Make random maps C2.. whose sizes halve, rounded up or down."""

    def make(
        channels: tuple[int, ...] = (4, 6, 8, 10),
        height: int = 32,
        width: int = 48,
        *,
        batch: int = 2,
        rounded_up: bool = True,
        dtype: torch.dtype = torch.float32,
        scale: float = 1.0,
        seed: int = 0,
    ) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        maps = []
        for c in channels:
            maps.append(scale * torch.randn(batch, c, height, width, generator=generator, dtype=dtype))
            height, width = (height + rounded_up) // 2, (width + rounded_up) // 2
        return maps

    return make


@pytest.fixture
def hub(monkeypatch, tmp_path_factory) -> Iterator[FakeHub]:
    """Serve an empty Hugging Face Hub, whose cache on this machine is empty too, to a user with a token."""
    from huggingface_hub import constants

    folder = tmp_path_factory.mktemp("hub")
    for name in ("HF_TOKEN_PATH", "HF_STORED_TOKENS_PATH", "HF_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(folder / name))
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        download_weights.cache_clear()
        yield hub
        download_weights.cache_clear()
