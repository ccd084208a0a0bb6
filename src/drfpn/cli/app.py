"""The command ``drfpn``: all commands, error messages and exit codes."""

import sys
from functools import partial
from io import TextIOWrapper
from typing import Annotated

import typer

from drfpn.cli import (
    ablate,
    bench,
    data,
    deprecated,
    doctor,
    evaluate,
    export,
    hints,
    inspect,
    predict,
    push,
    report,
    serve,
    train,
    view,
)
from drfpn.utils.errors import Interrupted, UsageError, UserError, message_of, out_of_memory_message
from drfpn.utils.messages import log_to_stderr

app = typer.Typer(
    name="drfpn",
    help="Train, evaluate and use object detectors with a better feature pyramid.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("merge")(predict.merge)
app.command("export")(export.export)
app.command("push")(push.push)
app.command("info")(inspect.info)
app.command("models")(inspect.models)
app.command("report")(report.report)
app.command("ablate")(ablate.ablate)
app.command("bench")(bench.bench)
app.command("app")(serve.serve)
app.command("doctor")(doctor.doctor)
app.command("demo")(train.demo)
app.add_typer(data.app, name="data")
app.add_typer(view.app, name="view")


def _version(requested: bool) -> None:
    if requested:
        from drfpn import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line.

    An error of the user is printed as one sentence on stderr; the exit code is 2 for a :class:`UsageError` and 1 for
    other errors.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # not every encoding has the characters of all names
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.argv[1:], notes = deprecated.rename_options(sys.argv[1:])
    except UsageError as error:
        print(f"drfpn: {error}", file=sys.stderr)
        sys.exit(2)
    for note in notes:
        print(note, file=sys.stderr)
    render = partial(hints.render, parameters=hints.parameters_of(app, sys.argv[1:]))
    try:
        with log_to_stderr(render):
            app()
    except UserError as error:
        print(f"drfpn: {render(message_of(error))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        print("drfpn: stopped", file=sys.stderr)
        sys.exit(130)
    except RuntimeError as error:
        from drfpn.utils import distributed

        # by name, since torch is not imported here; MPS raises a plain RuntimeError
        if type(error).__name__ == "OutOfMemoryError" or "backend out of memory" in str(error):
            print(f"drfpn: {render(out_of_memory_message(error))}", file=sys.stderr)
            sys.exit(1)
        if not distributed.is_peer_failure(error):
            raise
        print("drfpn: another process of this training has ended", file=sys.stderr)
        sys.exit(distributed.PEER_FAILURE_EXIT_CODE)
    except Interrupted as stop:
        print(f"drfpn: {stop}", file=sys.stderr)
        sys.exit(128 + stop.signal_number)
