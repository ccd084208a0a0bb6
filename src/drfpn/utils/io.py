"""Files that are replaced atomically."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from drfpn.utils.errors import UserError


@contextmanager
def replaced(file: Path) -> Iterator[BinaryIO]:
    """Open a new ``file`` to write, which takes the old one's place when it is whole and on the disk.

    Raises:
        UserError: it cannot be written (a full disk, say); the old one is untouched.
    """
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except (OSError, RuntimeError) as error:  # torch.save turns the one into the other
        with suppress(OSError):
            part.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{file} could not be written ({reason}); what was there before is untouched.") from error


def write_atomically(file: Path, data: bytes) -> None:
    """Write ``file`` so that at any moment it is either the old one or the new one, whole."""
    with replaced(file) as stream:
        stream.write(data)


def write_json(file: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, atomically; without ``indent`` on one line."""
    write_atomically(file, (json.dumps(value, indent=indent) + "\n").encode())
