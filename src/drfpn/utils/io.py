"""Atomic writing of files."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from drfpn.utils.errors import UserError


@contextmanager
def open_atomically(file: Path) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, which replaces ``file`` when the context is left without an error.

    Args:
        file: the file to write.

    Raises:
        UserError: the file cannot be written, because the disk is full for example; the old file is unchanged.
    """
    temporary = file.with_name(file.name + ".part")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError with an OSError as its context
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{file} could not be written ({reason}); what was there before is unchanged.") from error


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, as far as they are missing.

    Args:
        folder: the folder.

    Raises:
        UserError: it cannot be created, because it is a file for example.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        reason = f"{file} is a file" if file is not None else error.strerror or str(error)
        raise UserError(f"The folder {folder} could not be created: {reason}.") from error


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file so that at any moment either the old or the new contents are on the disk.

    Args:
        file: the file to write.
        data: new contents.
    """
    with open_atomically(file) as stream:
        stream.write(data)


def write_json(file: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write a value as JSON, atomically.

    Args:
        file: the file to write.
        value: a value that JSON can represent.
        indent: spaces of indentation; ``None`` writes a single line.
    """
    write_atomically(file, (json.dumps(value, indent=indent) + "\n").encode())


def read_last_line(log: Path) -> str:
    """Return the last line of the log of a command of this library, which is the error message if it failed.

    Args:
        log: file with its output; it may be missing.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1].removeprefix("drfpn: ") if lines else "it printed nothing"
