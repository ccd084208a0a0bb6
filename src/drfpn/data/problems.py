"""A fault of a data set, as the readers raise it and the checker collects it."""

from collections.abc import Callable
from dataclasses import dataclass

from drfpn.errors import UserError


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

    @property
    def example(self) -> str:
        """The fault in short."""
        return f"{self.where}: {self.found}"

    @property
    def sentence(self) -> str:
        """The fault as a full message."""
        return f"{self.where}: {self.found}, expected {self.expected}."


Report = Callable[[Problem], None]


def refusal(first: Problem, bad: int, total: int, what: str) -> UserError:
    """Return the error for ``bad`` of ``total`` ``what`` (in the plural), of which ``first`` is the first."""
    these = "is bad" if bad == 1 else "are bad"
    return UserError(
        f"{first.where}: {first.found}, expected {first.expected} ({bad} of {total} {what} {these}; "
        "'--on-bad skip' or '--on-bad fix' goes on without them)."
    )


def raise_problem(problem: Problem) -> None:
    """Raise the problem as a ``UserError``: the report of a reader that accepts no fault."""
    raise UserError(problem.sentence)
