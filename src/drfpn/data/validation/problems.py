"""A fault of a data set, as the readers raise it and the checker collects it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from drfpn.utils.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One fault of a data set.

    Readers hand every fault to a ``Report``: ``raise_problem`` stops at the first, the checker's report
    collects them all. After a report that returns, a reader leaves the faulty record out and goes on.
    """

    kind: str
    """Short name of the sort of fault, a key of ``check.MEANINGS``."""
    where: str
    """The file, and the record in it."""
    found: str
    expected: str
    fatal: bool = True
    """Whether ``raise_problem`` stops at it; false for what a reader can leave out without harm."""

    @property
    def example(self) -> str:
        """The fault in short."""
        return f"{self.where}: {self.found}"

    @property
    def sentence(self) -> str:
        """The fault as a full message."""
        return f"{self.where}: {self.found}, expected {self.expected}."


Report = Callable[[Problem], None]
Progress = Callable[[int, int], None]
"""Is called with how many are done, and of how many."""
Stage = Callable[[str], AbstractContextManager[Progress]]
"""Begins a part of the work that has a title, and gives what its progress is told to."""


def image_problem(path: Path, error: UserError) -> Problem:
    """Return the problem of an image file that is missing, or that ``error`` says cannot be decoded."""
    if not path.is_file():
        return Problem("image-missing", str(path), "there is no such file", "an image")
    reason = str(error).removeprefix(f"{path} ").removesuffix(".")
    return Problem("image-undecodable", str(path), reason, "an image that can be decoded")


def refusal(first: Problem, bad: int, total: int, what: str) -> UserError:
    """Return the error for ``bad`` of ``total`` ``what`` (in the plural), of which ``first`` is the first."""
    these = "is bad" if bad == 1 else "are bad"
    return UserError(
        f"{first.where}: {first.found}, expected {first.expected} ({bad} of {total} {what} {these}; "
        "'--on-bad skip' or '--on-bad fix' goes on without them)."
    )


def raise_problem(problem: Problem) -> None:
    """Raise the problem as a ``UserError``, if it is fatal: the report of a reader that accepts no fault."""
    if problem.fatal:
        raise UserError(problem.sentence)


class StrictReport:
    """The report of a reader that accepts no fatal fault, and counts the others."""

    def __init__(self) -> None:
        self._harmless: list[Problem] = []

    def __call__(self, problem: Problem) -> None:
        """Raise the problem if it is fatal."""
        raise_problem(problem)
        self._harmless.append(problem)

    def lines(self) -> list[str]:
        """Return one line about the problems that were not fatal, if there were any."""
        if not self._harmless:
            return []
        others = f" ({len(self._harmless)} such faults)" if len(self._harmless) > 1 else ""
        return [f"{self._harmless[0].example}{others}."]


class LenientReport(StrictReport):
    """The report of a reader that leaves faulty records out and remembers them.

    Images that cannot be read stay in the data set: whoever reads them decides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[Problem] = []

    def __call__(self, problem: Problem) -> None:
        """Raise the problem if a whole file or its ids are at fault."""
        if problem.kind in _OF_RECORDS:
            self.left_out.append(problem)
        elif problem.kind not in _OF_IMAGES:
            super().__call__(problem)

    def lines(self) -> list[str]:
        """Return one line about what was left out, if anything was, and one about what is not fatal."""
        lines = super().lines()
        if self.left_out:
            others = f" and {len(self.left_out) - 1} others" if len(self.left_out) > 1 else ""
            lines.insert(0, f"left out: {self.left_out[0].example}{others}.")
        return lines


_OF_RECORDS = {"bad-record", "unknown-image", "unknown-category", "duplicate-annotation-id"}
_OF_IMAGES = {"image-missing", "image-undecodable"}
