"""Progress bars and messages on stderr, from rank 0 only."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from drfpn.utils import distributed

console = Console(stderr=True, highlight=False, markup=False, emoji=False)

_LINE_INTERVAL = 15.0
"""Seconds between lines where stderr is not a terminal."""


class Bar:
    """Progress of a task, printed as a line every few seconds.

    Args:
        title: name of the task.
        total: number of items.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self._start = self._last = time.monotonic()

    def set_total(self, total: int) -> None:
        """Set the number of items, if it was not known at the start.

        Args:
            total: number of items.
        """
        self.total = total

    def show(self, note: str) -> None:
        """Show how far the item in progress is.

        Args:
            note: text beside the progress.
        """
        now = time.monotonic()
        if now - self._last >= _LINE_INTERVAL and distributed.rank() == 0:
            self._last = now
            print(f"{self.title} {self.done}/{self.total}  {note}", file=sys.stderr, flush=True)

    def advance(self, note: str = "") -> None:
        """Count one more item as done.

        Args:
            note: text beside the progress, such as the loss.
        """
        self.done += 1
        now = time.monotonic()
        if now - self._last >= _LINE_INTERVAL and self.done < self.total and distributed.rank() == 0:
            self._last = now
            left = (now - self._start) / self.done * (self.total - self.done)
            print(f"{self.title} {self.done}/{self.total}  {note}  {left:.0f} s left", file=sys.stderr, flush=True)


class _RichBar(Bar):
    """Progress of a task, shown as a bar on a terminal."""

    def __init__(self, title: str, total: int, progress: Progress) -> None:
        super().__init__(title, total)
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def set_total(self, total: int) -> None:
        super().set_total(total)
        self._progress.update(self._task, total=total)

    def show(self, note: str) -> None:
        self._progress.update(self._task, note=note)

    def advance(self, note: str = "") -> None:
        self.done += 1
        self._progress.update(self._task, advance=1, note=note)


@contextmanager
def bar(title: str, total: int) -> Iterator[Bar]:
    """Show the progress of a task: a bar on a terminal, else a line every few seconds.

    Args:
        title: name of the task.
        total: number of items.

    Yields:
        The progress, to be advanced with each item.
    """
    if not console.is_terminal or distributed.rank() > 0:
        yield Bar(title, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _RichBar(title, total, progress)


def say(line: str) -> None:
    """Print one line on stderr, above a progress bar if there is one.

    Args:
        line: text without markup.
    """
    if distributed.rank() == 0:
        console.print(line, soft_wrap=True)
