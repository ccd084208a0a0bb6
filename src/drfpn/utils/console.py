"""Progress on a terminal as a bar, elsewhere as a plain line now and then. Always on stderr, from the first process."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from drfpn.utils import distributed

console = Console(stderr=True, highlight=False)

_SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """One task: how far it is, and what there is to say about it."""

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self._start = self._last = time.monotonic()

    def set_total(self, total: int) -> None:
        """Say how many there are where that was not known at first."""
        self.total = total

    def advance(self, note: str = "") -> None:
        """Count one more, with losses or the like as ``note``."""
        self.done += 1
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES and self.done < self.total and distributed.rank() == 0:
            self._last = now
            left = (now - self._start) / self.done * (self.total - self.done)
            print(f"{self.title} {self.done}/{self.total}  {note}  {left:.0f} s left", file=sys.stderr, flush=True)


class _RichBar(Bar):
    def __init__(self, title: str, total: int, progress: Progress) -> None:
        super().__init__(title, total)
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def set_total(self, total: int) -> None:
        super().set_total(total)
        self._progress.update(self._task, total=total)

    def advance(self, note: str = "") -> None:
        self.done += 1
        self._progress.update(self._task, advance=1, note=note)


@contextmanager
def bar(title: str, total: int) -> Iterator[Bar]:
    """Show the progress of ``total`` things called ``title``."""
    if not console.is_terminal or distributed.rank() > 0:
        yield Bar(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _RichBar(title, total, progress)


def say(line: str) -> None:
    """Print one line for the user."""
    if distributed.rank() == 0:
        console.print(line, markup=False, soft_wrap=True)
