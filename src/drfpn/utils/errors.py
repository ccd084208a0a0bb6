"""A user's mistake, told in one sentence."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend: a file, a key, a name, a level.

    The message is one sentence that names the thing, what was found and what was expected.
    The command line prints it without a traceback and exits with ``exit_code``:
    1 where the work failed, 2 where the call was wrong.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stopped(Exception):  # no error: somebody asked
    """The work was asked to stop and has saved what it had.

    Args:
        message: what the user is told.
        exit_code: of the command.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known word closest to ``word``, else an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def message_of(error: UserError) -> str:
    """Return the message alone: an error from a loader's worker arrives with the worker's traceback around it."""
    return str(error).rsplit(f"{UserError.__name__}: ", 1)[-1].strip()


def out_of_memory(error: RuntimeError) -> str:
    """Return one sentence about a device that is out of memory."""
    tried = next((part.strip(" .") for part in str(error).split(". ") if part.startswith("Tried to allocate")), "")
    return (
        f"The device is out of memory{f' (t{tried[1:]})' if tried else ''}: in training take fewer images a step "
        "(-o batch_size=N), take them in parts (-o accumulate=N), smaller (-o min_size=N -o max_size=N) or in 16 bits "
        "(-o amp=bf16); elsewhere --device cpu."
    )
