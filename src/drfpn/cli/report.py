"""``drfpn report``: HTML reports of runs."""

from pathlib import Path
from typing import Annotated

import typer

from drfpn.cli.common import Json, print_json
from drfpn.utils.errors import UsageError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Page to write; default: report.html of the run, or runs.html."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the report of a run, or a page that compares several runs."""
    from drfpn.utils.hub import is_hub_name
    from drfpn.visualization import write_comparison, write_report

    for run in filter(is_hub_name, runs):
        raise UsageError(f"{run} is on the Hub, without the logs of which a report is made: give a run folder.")
    if len(runs) == 1:
        page = write_report(runs[0])
        if out is not None:
            page = out
            page.write_bytes((runs[0] / "report.html").read_bytes())
    else:
        page = write_comparison(runs, out or Path("runs.html"))
    if json:
        print_json({"report": str(page)})
    else:
        typer.echo(f"{page}: open it in a browser")
