"""What a traced graph is told about sizes."""

from typing import Any

import torch


def opaque(size: int | torch.SymInt, most: int) -> int:
    """Hide from a traced graph how a size was computed; outside of tracing it stays as it is.

    Each layer would reason over the whole expression anew, and where it may be 1, bind the graph to whether it is.

    Args:
        size: at least 1.
        most: largest value that it can have.
    """
    if not torch.compiler.is_compiling():
        return int(size)
    hidden: Any = torch.scalar_tensor(size, dtype=torch.int64).item()  # int() would make it a number
    torch._check(hidden >= 1)
    torch._check(hidden <= most)
    return hidden
