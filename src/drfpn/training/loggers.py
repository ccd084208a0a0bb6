"""Where the numbers of a run go: JSON lines and CSV always, other loggers where they are asked for by name."""

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from drfpn.training.config import RunConfig
from drfpn.utils.console import say
from drfpn.utils.errors import UserError, did_you_mean
from drfpn.utils.io import write_atomically

Row = Mapping[str, Any]
"""Numbers by name, with "step", and "epoch" where an epoch is over."""


class Logger(Protocol):
    """Receives rows."""

    def log(self, row: Row) -> None:
        """Take one row."""

    def close(self) -> None:
        """Hand on what is still held."""


class Table:
    """Rows in ``NAME.jsonl``, a line each, and all of them in ``NAME.csv`` when it is closed or asked to.

    Args:
        folder: of the run.
        name: of the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.lines = folder / f"{name}.jsonl"
        self.csv = folder / f"{name}.csv"

    def rows(self) -> list[dict[str, Any]]:
        """Return what is logged so far; a line that a kill cut off is left out."""
        if not self.lines.is_file():
            return []
        rows = []
        for line in self.lines.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def forget_after(self, step: int) -> None:
        """Drop the rows of later steps, which a run that goes on from there will write anew."""
        kept = [row for row in self.rows() if row["step"] <= step]
        write_atomically(self.lines, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def log(self, row: Row) -> None:
        """Append one row."""
        try:
            with self.lines.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(dict(row)) + "\n")
        except OSError as error:
            raise UserError(f"{self.lines} could not be written ({error.strerror}).") from error

    def write_csv(self) -> None:
        """Write all rows as CSV, a column for each name that occurs."""
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.csv, text.getvalue().encode())

    def close(self) -> None:
        """Write the CSV."""
        self.write_csv()


class TensorBoard:
    """Event files in ``RUN/tensorboard``; look at them with ``tensorboard --logdir RUN``."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        _require("tensorboard")
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", f"```\n{config.to_yaml()}```")

    def log(self, row: Row) -> None:
        """Take one row."""
        for name, value in _numbers(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Hand on what is still held."""
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb in ``RUN/wandb``, offline unless WANDB_MODE says otherwise; ``wandb sync`` uploads it."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        wandb = _require("wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project="drfpn", name=folder.name, dir=str(folder), mode=mode, config=config.model_dump(mode="json")
        )

    def log(self, row: Row) -> None:
        """Take one row."""
        self._run.log(_numbers(row), step=row["step"])

    def close(self) -> None:
        """Hand on what is still held."""
        self._run.finish()


class MLflow:
    """A run of MLflow in ``RUN/mlflow.db``, unless MLFLOW_TRACKING_URI names a server."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self._mlflow = _require("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        self._client = import_module("mlflow.tracking").MlflowClient(uri)
        experiment = self._client.get_experiment_by_name("drfpn")
        number = experiment.experiment_id if experiment else self._client.create_experiment("drfpn")
        self._run = self._client.create_run(number, run_name=folder.name).info.run_id
        for name, value in config.model_dump(mode="json").items():
            self._client.log_param(self._run, name, str(value)[:500])

    def log(self, row: Row) -> None:
        """Take one row."""
        for name, value in _numbers(row).items():
            self._client.log_metric(self._run, name, value, step=row["step"])

    def close(self) -> None:
        """Hand on what is still held."""
        self._client.set_terminated(self._run)


LOGGERS: dict[str, Callable[[Path, RunConfig], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
"""By the name in ``-o loggers=[...]``."""


class Log:
    """All logs of a run: ``log`` (a row an epoch), ``steps`` (a row now and then) and the loggers asked for.

    A logger that fails (a full quota, a server that is gone) is left out from then on, and the run goes on.

    Args:
        folder: of the run.
        config: whose ``loggers`` are opened.
        after: rows of steps after this one are dropped: the run goes on from there.

    Raises:
        UserError: a logger that cannot be opened.
    """

    def __init__(self, folder: Path, config: RunConfig, after: int) -> None:
        self.epochs = Table(folder, "log")
        self.steps = Table(folder, "steps")
        for table in (self.epochs, self.steps):
            table.forget_after(after)
        self._others: dict[str, Logger] = {}
        for name in config.loggers:
            try:
                self._others[name] = LOGGERS[name](folder, config)
            except Exception as error:  # whatever another library comes up with
                self.close()
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise UserError(f"The logger '{name}' cannot be opened ({reason}).") from error

    def step(self, row: Row) -> None:
        """Log the losses of a step."""
        self.steps.log(row)
        self._tell("log", row)

    def epoch(self, row: Row) -> None:
        """Log an epoch."""
        self.epochs.log(row)
        for table in (self.epochs, self.steps):
            table.write_csv()
        self._tell("log", row)

    def close(self) -> None:
        """Hand on what is still held."""
        self._tell("close")

    def _tell(self, what: str, *values: Row) -> None:
        for name, logger in list(self._others.items()):
            try:
                getattr(logger, what)(*values)
            except Exception as error:  # whatever the network or another library comes up with
                say(f"{name} failed ({type(error).__name__}: {error}) and is left out from here on")
                del self._others[name]


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers that are not known or not installed.

    Raises:
        UserError: with the nearest name or what to install.
    """
    for name in names:
        if name not in LOGGERS:
            known = ", ".join(LOGGERS)
            raise UserError(
                f"'{name}' is no logger, expected one of {known}.{did_you_mean(name, LOGGERS)}", exit_code=2
            )
        _require(name)


def _require(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(f"The logger '{package}' is not installed: pip install {package}.", exit_code=2) from error


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
