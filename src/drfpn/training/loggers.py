"""Loggers of a run: JSON lines and CSV always, TensorBoard, Weights & Biases and MLflow on request."""

import csv
import io
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from drfpn.training.config import RunConfig
from drfpn.utils.errors import UsageError, UserError, did_you_mean
from drfpn.utils.io import write_atomically

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
"""Values by name, with "step", and with "epoch" at the end of an epoch."""


class Logger(Protocol):
    """Interface of a logger."""

    def log(self, row: Row) -> None:
        """Log one row.

        Args:
            row: values by name.
        """

    def close(self) -> None:
        """Write what is buffered, and release resources."""


class TableLogger:
    """Writes rows to ``NAME.jsonl``, one line each, and all of them to ``NAME.csv`` when it is closed.

    Args:
        folder: the run folder.
        name: name of the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.lines = folder / f"{name}.jsonl"
        self.csv = folder / f"{name}.csv"

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows; an incomplete last line, of a process that was killed, is ignored."""
        if not self.lines.is_file():
            return []
        rows = []
        for line in self.lines.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def truncate(self, key: str, last: int) -> None:
        """Remove the rows of later steps or epochs, which a resumed run writes again.

        Args:
            key: ``"step"`` or ``"epoch"``.
            last: last one to keep.
        """
        rows = [row for row in self.rows() if row[key] <= last]
        write_atomically(self.lines, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def log(self, row: Row) -> None:
        """Append one row.

        Args:
            row: values by name.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            with self.lines.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(dict(row)) + "\n")
        except OSError as error:
            raise UserError(f"{self.lines} could not be written ({error.strerror}).") from error

    def write_csv(self) -> None:
        """Write all rows as CSV, with a column for each name that occurs."""
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.csv, text.getvalue().encode())

    def close(self) -> None:
        """Write the CSV file."""
        self.write_csv()


class TensorBoard:
    """Writes event files to ``tensorboard/`` of the run folder, for ``tensorboard --logdir RUN``.

    Args:
        folder: the run folder.
        config: settings of the run, logged as text.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        _require("tensorboard")
        self._writer = import_module("torch.utils.tensorboard").SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("config", f"```\n{config.to_yaml()}```")

    def log(self, row: Row) -> None:
        """Log one row.

        Args:
            row: values by name; only numbers are logged.
        """
        for name, value in _numbers(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WeightsAndBiases:
    """Logs to a wandb run in ``wandb/`` of the run folder, offline unless WANDB_MODE is set; ``wandb sync`` uploads it.

    Args:
        folder: the run folder.
        config: settings of the run.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        wandb = _require("wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project="drfpn", name=folder.name, dir=str(folder), mode=mode, config=config.model_dump(mode="json")
        )

    def log(self, row: Row) -> None:
        """Log one row.

        Args:
            row: values by name; only numbers are logged.
        """
        self._run.log(_numbers(row), step=row["step"])

    def close(self) -> None:
        """Finish the wandb run."""
        self._run.finish()


class MLflow:
    """Logs to an MLflow run in ``mlflow.db`` of the run folder, or on the server in MLFLOW_TRACKING_URI.

    Args:
        folder: the run folder.
        config: settings of the run, logged as parameters.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self._mlflow = _require("mlflow")
        uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        self._client = import_module("mlflow.tracking").MlflowClient(uri)
        experiment = self._client.get_experiment_by_name("drfpn")
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment("drfpn")
        self._run = self._client.create_run(experiment_id, run_name=folder.name).info.run_id
        for name, value in config.model_dump(mode="json").items():
            self._client.log_param(self._run, name, str(value)[:500])

    def log(self, row: Row) -> None:
        """Log one row.

        Args:
            row: values by name; only numbers are logged.
        """
        for name, value in _numbers(row).items():
            self._client.log_metric(self._run, name, value, step=row["step"])

    def close(self) -> None:
        """Mark the MLflow run as finished."""
        self._client.set_terminated(self._run)


LOGGERS: dict[str, Callable[[Path, RunConfig], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
"""Optional loggers by their name in the setting ``loggers``."""


class RunLogger:
    """All loggers of a run: ``log`` (a row per epoch), ``steps`` (a row every few steps) and the optional ones.

    An optional logger that fails, because a server does not respond for example, is disabled, and the run continues.

    Args:
        folder: the run folder.
        config: settings of the run with the names of the optional ``loggers``.
        step: rows of later steps are removed, since the run continues from this step.
        epoch: rows of later epochs are removed; one may be finished but for the last save.

    Raises:
        UserError: an optional logger cannot be opened.
    """

    def __init__(self, folder: Path, config: RunConfig, step: int, epoch: int) -> None:
        self.epochs = TableLogger(folder, "log")
        self.steps = TableLogger(folder, "steps")
        self.epochs.truncate("epoch", epoch)
        self.steps.truncate("step", step)
        self._optional: dict[str, Logger] = {}
        for name in config.loggers:
            try:
                self._optional[name] = LOGGERS[name](folder, config)
            except Exception as error:  # other libraries raise errors of any type
                self.close()
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise UserError(f"The logger '{name}' cannot be opened ({reason}).") from error

    def step(self, row: Row) -> None:
        """Log the losses of a step.

        Args:
            row: values by name, with "step".
        """
        self.steps.log(row)
        self._call("log", row)

    def epoch(self, row: Row) -> None:
        """Log losses and metrics of an epoch.

        Args:
            row: values by name, with "step" and "epoch".
        """
        self.epochs.log(row)
        for table in (self.epochs, self.steps):
            table.write_csv()
        self._call("log", row)

    def close(self) -> None:
        """Close the optional loggers."""
        self._call("close")

    def _call(self, method: str, *rows: Row) -> None:
        """Call a method of all optional loggers; one that raises is disabled."""
        for name, optional in list(self._optional.items()):
            try:
                getattr(optional, method)(*rows)
            except Exception as error:  # other libraries raise errors of any type
                logger.warning("%s failed (%s: %s) and is disabled", name, type(error).__name__, error)
                del self._optional[name]


def check_loggers(names: Sequence[str]) -> None:
    """Check that loggers are known and installed.

    Args:
        names: the setting ``loggers``.

    Raises:
        UsageError: one is not; the message has the nearest name or what to install.
    """
    for name in names:
        if name not in LOGGERS:
            known = ", ".join(LOGGERS)
            raise UsageError(f"'{name}' is no logger, expected one of {known}.{did_you_mean(name, LOGGERS)}")
        _require(name)


def _require(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise UsageError(f"The logger '{package}' is not installed: pip install {package}.") from error


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
