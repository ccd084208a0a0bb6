"""Check of the number of channels where a layer divides them into groups."""

from drfpn.utils.errors import UsageError


def check_groups(channels: int, groups: int, layer: str) -> None:
    """Check that channels can be divided into groups of equal size.

    Args:
        channels: number of channels.
        groups: number of groups.
        layer: name of the layer, for the message.

    Raises:
        UsageError: ``channels`` is not a multiple of ``groups``.
    """
    if channels % groups:
        raise UsageError(f"The channels of {layer} must be a multiple of its {groups} groups, not {channels}.")
