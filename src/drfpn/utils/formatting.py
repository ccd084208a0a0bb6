"""Formatting of numbers for tables and reports."""


def percent(fraction: float) -> str:
    """Format a metric in percent; a dash for -1, COCO's value of a metric without objects.

    Args:
        fraction: value in [0, 1], or -1.
    """
    return "-" if fraction < 0 else f"{100 * fraction:.1f}"
