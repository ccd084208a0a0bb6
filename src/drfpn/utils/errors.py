"""Exceptions that are meant for the user, and texts for them."""

import difflib
import signal
from collections.abc import Iterable


class UserError(ValueError):
    """Something that the user can fix in files or data: a missing file, a broken image, weights that do not fit.

    The command line prints the message without a traceback and exits with 1.

    Args:
        message: one sentence that names the object, its value and what was expected. Arguments and settings are written
            as in Python and in backquotes: ``batch_size=8``.
    """


class UsageError(UserError):
    """A wrong argument, option or setting; the command line exits with 2.

    Args:
        message: as of :class:`UserError`.
    """


class Interrupted(Exception):  # not a UserError: nothing is wrong
    """The work was stopped by a signal after saving its state.

    Args:
        signal_number: number of the signal, such as ``signal.SIGTERM``; the command line exits with 128 plus it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the most similar known word, or an empty string if none is similar.

    Args:
        word: an unknown word.
        known: known words.
    """
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def message_of(error: UserError) -> str:
    """Return the message of an error without the traceback that a ``DataLoader`` worker puts around it.

    Args:
        error: raised here or in a worker.
    """
    return str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()


def out_of_memory_message(error: RuntimeError) -> str:
    """Return one sentence about a device that is out of memory, and what to change.

    Args:
        error: PyTorch's out-of-memory error.
    """
    parts = str(error).split(". ")
    allocation = next((part.strip(" .") for part in parts if part.startswith("Tried to allocate")), "")
    return (
        f"The device is out of memory{f' (t{allocation[1:]})' if allocation else ''}: in training use a smaller batch "
        "(`batch_size=N`), gradient accumulation (`grad_accum_steps=N`), smaller images (`min_size=N`, `max_size=N`) "
        "or 16 bits (`amp=bf16`); elsewhere `device='cpu'`."
    )
