"""Towers of one-stage heads: the layers between the levels and the predictions, separate or shared by all levels."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from drfpn.necks.pconv import SharedLayer
from drfpn.utils.choices import choose

Layer = Callable[[int], nn.Module]
"""Makes a module for a number of channels that maps the list of all levels to a list of the same shapes."""

TOWERS: dict[str, Layer | None] = {
    "convs": None,
    "shared": SharedLayer,
    "sepc": partial(SharedLayer, norm=True, deformable=True),
}
"""By name: torchvision's four convolutions, or one layer in place of each tower: a plain 3x3 convolution, or SEPC's."""


class SharedTowerBranch(nn.Sequential):
    """A layer that reads all levels, followed by the classification or regression branch of a head."""

    def compute_loss(self, *args: Any) -> Tensor:
        """Return the loss of the branch."""
        branch: Any = self[1]
        return branch.compute_loss(*args)


def replace_towers(head: nn.Module, towers: str, width: int) -> None:
    """Replace the towers of both branches of a head in place.

    Args:
        head: head with ``classification_head`` and ``regression_head``, as in torchvision.
        towers: a key of ``TOWERS``.
        width: channels of the levels.

    Raises:
        UsageError: an unknown name.
    """
    make_layer = choose("towers", towers, TOWERS)
    if make_layer is None:
        return
    for name in ("classification_head", "regression_head"):
        branch = head.get_submodule(name)
        branch.conv = nn.Identity()
        setattr(head, name, SharedTowerBranch(make_layer(width), branch))
