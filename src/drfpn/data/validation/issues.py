"""Issues of a data set: the record of one issue, and the handlers that raise, skip or collect issues."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from drfpn.utils.errors import UsageError, UserError

OnBad = Literal["error", "skip", "fix"]
"""What to do with invalid annotations: raise an error, drop them, or repair what can be repaired and drop the rest."""


def check_on_bad(value: str) -> OnBad:
    """Return ``value`` if it is a valid ``on_bad``.

    Raises:
        UsageError: it is not.
    """
    if value not in get_args(OnBad):
        raise UsageError(f"`on_bad` is '{value}', expected 'error', 'skip' or 'fix'.")
    return cast(OnBad, value)


@dataclass(frozen=True)
class Issue:
    """One issue of a data set.

    Readers pass every issue to an ``IssueHandler``: ``raise_issue`` stops at the first, that of ``check_dataset``
    collects them all. If the handler returns, the reader skips the invalid record and continues.
    """

    kind: str
    """A key of ``check.ISSUE_KINDS``."""
    location: str
    """The file, and the record in it."""
    observed: str
    """What is wrong, as a clause: "its id is 'x'"."""
    expected: str
    fatal: bool = True
    """Whether ``raise_issue`` raises it; false for what a reader can skip without harm."""

    @property
    def summary(self) -> str:
        """Location and observation."""
        return f"{self.location}: {self.observed}"

    @property
    def message(self) -> str:
        """Location, observation and expectation as one sentence."""
        return f"{self.location}: {self.observed}, expected {self.expected}."


IssueHandler = Callable[[Issue], None]
"""Called with each issue that a reader meets."""


def invalid_objects_error(first: Issue, invalid: int, total: int, noun: str) -> UserError:
    """Return the error for a data set with invalid boxes or segmentations.

    Args:
        first: the first of the issues.
        invalid: number of invalid objects.
        total: number of all objects.
        noun: what is invalid, in the plural.
    """
    verb = "is" if invalid == 1 else "are"
    return UserError(
        f"{first.location}: {first.observed}, expected {first.expected} ({invalid} of {total} {noun} {verb} bad; "
        "`on_bad='skip'` or `on_bad='fix'` goes on without them)."
    )


def raise_issue(issue: Issue) -> None:
    """Raise a ``UserError`` if the issue is fatal: the handler of a reader that accepts no invalid record."""
    if issue.fatal:
        raise UserError(issue.message)


class StrictIssueHandler:
    """Issue handler that raises fatal issues and collects the others."""

    def __init__(self) -> None:
        self._harmless: list[Issue] = []

    def __call__(self, issue: Issue) -> None:
        """Raise the issue if it is fatal."""
        raise_issue(issue)
        self._harmless.append(issue)

    def messages(self) -> list[str]:
        """Return one line about the issues of each kind that were not fatal."""
        by_kind: dict[str, list[Issue]] = {}
        for issue in self._harmless:
            by_kind.setdefault(issue.kind, []).append(issue)
        return [
            issues[0].summary + (f" ({len(issues)} such faults)." if len(issues) > 1 else ".")
            for issues in by_kind.values()
        ]


class LenientIssueHandler(StrictIssueHandler):
    """Issue handler that skips invalid records and collects them.

    Images that cannot be read stay in the data set: the caller that loads them handles the error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped: list[Issue] = []

    def __call__(self, issue: Issue) -> None:
        """Raise the issue if it concerns a whole file or its ids."""
        if issue.kind in RECORD_KINDS:
            self.skipped.append(issue)
        elif issue.kind not in IMAGE_KINDS:
            super().__call__(issue)

    def messages(self) -> list[str]:
        """Return one line about skipped records, if any, and one about each kind of issue that was not fatal."""
        messages = super().messages()
        if self.skipped:
            others = f" and {len(self.skipped) - 1} others" if len(self.skipped) > 1 else ""
            messages.insert(0, f"left out: {self.skipped[0].summary}{others}.")
        return messages


RECORD_KINDS = {"bad-record", "unknown-image", "unknown-category", "duplicate-annotation-id"}
IMAGE_KINDS = {"image-missing", "image-undecodable"}
