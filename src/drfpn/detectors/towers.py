"""What a one-stage head passes levels through before it predicts: four convolutions for classes and four for boxes."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from drfpn.detectors.options import choose
from drfpn.necks.pconv import SharedLayer

Layer = Callable[[int], nn.Module]
"""Makes, for a number of channels, what maps the list of all levels to one of the same shapes."""

TOWERS: dict[str, Layer | None] = {
    "convs": None,
    "shared": SharedLayer,
    "sepc": partial(SharedLayer, norm=True, deformable=True),
}
"""By name: torchvision's towers, or one layer in place of each: a plain 3x3, or SEPC's."""


class Behind(nn.Sequential):
    """A branch of a head behind a layer that sees all levels; its loss is the branch's."""

    def compute_loss(self, *args: Any) -> Tensor:
        """Return the branch's loss."""
        branch: Any = self[1]
        return branch.compute_loss(*args)


def set_towers(head: nn.Module, towers: str, width: int) -> None:
    """Give both branches of a head other towers.

    Args:
        head: of torchvision's kind, with ``classification_head`` and ``regression_head``.
        towers: a name of ``TOWERS``.
        width: of the levels.

    Raises:
        UserError: an unknown name.
    """
    layer = choose("towers", towers, TOWERS)
    if layer is None:
        return
    for name in ("classification_head", "regression_head"):
        branch = head.get_submodule(name)
        branch.conv = nn.Identity()
        setattr(head, name, Behind(layer(width), branch))
