import csv
import json
import sys
import types

import pytest

from drfpn.training.loggers import LOGGERS, RunLogger, TableLogger, check_loggers
from drfpn.utils.errors import UserError


def test_rows_are_lines_of_json_and_rows_of_csv(tmp_path) -> None:
    table = TableLogger(tmp_path, "log")
    table.log({"step": 1, "loss": 2.5})
    table.log({"step": 2, "loss": 1.5, "AP": 0.25})
    table.close()
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == table.rows()
    with (tmp_path / "log.csv").open() as stream:
        assert list(csv.DictReader(stream)) == [
            {"step": "1", "loss": "2.5", "AP": ""},
            {"step": "2", "loss": "1.5", "AP": "0.25"},
        ]


def test_rows_of_steps_that_are_done_anew_are_dropped_and_so_is_a_line_cut_off(tmp_path) -> None:
    table = TableLogger(tmp_path, "steps")
    for step in range(1, 5):
        table.log({"step": step})
    with table.lines.open("a") as stream:
        stream.write('{"step": 5, "lo')
    table.truncate("step", 3)
    assert [row["step"] for row in table.rows()] == [1, 2, 3]
    table.log({"step": 4})
    assert [row["step"] for row in table.rows()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["tensorbord"], "Did you mean 'tensorboard'"), (["mlflow"], "pip install mlflow")],
)
def test_an_unknown_or_missing_logger_is_refused(names, expected, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it fails
    with pytest.raises(UserError, match=expected):
        check_loggers(names)


def test_a_logger_that_fails_is_left_out_and_the_run_goes_on(tmp_path, tiny_config, monkeypatch, caplog) -> None:
    class Failing:
        def __init__(self, folder, config) -> None:
            self.rows = []

        def log(self, row) -> None:
            raise ConnectionError("the server is gone")

        def close(self) -> None:
            raise AssertionError("it was left out")

    monkeypatch.setitem(LOGGERS, "wandb", Failing)
    log = RunLogger(tmp_path, tiny_config("loggers=[wandb]"), step=0, epoch=0)
    for step in (1, 2):
        log.step({"step": step, "loss": 1.0})
    log.epoch({"step": 2, "epoch": 1, "loss": 1.0})
    log.close()
    assert caplog.text.count("wandb failed (ConnectionError: the server is gone)") == 1
    assert len(log.steps.rows()) == 2
    assert len(log.epochs.rows()) == 1


def test_tensorboard_holds_what_was_logged(tmp_path, tiny_config) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLogger(tmp_path, tiny_config("loggers=[tensorboard]"), step=0, epoch=0)
    log.step({"step": 20, "loss": 2.0})
    log.epoch({"step": 40, "epoch": 1, "loss": 1.5, "AP": 0.25})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(20, 2.0), (40, 1.5)]
    assert [event.value for event in events.Scalars("AP")] == [0.25]


def test_mlflow_holds_what_was_logged_in_a_file_of_the_run(tmp_path, tiny_config, monkeypatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from mlflow.tracking import MlflowClient

    log = RunLogger(tmp_path, tiny_config("loggers=[mlflow]"), step=0, epoch=0)
    log.epoch({"step": 40, "epoch": 1, "loss": 1.5, "AP": 0.25})
    log.close()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("drfpn").experiment_id])
    assert run.data.metrics == {"step": 40, "epoch": 1, "loss": 1.5, "AP": 0.25}
    assert run.info.status == "FINISHED"


def test_wandb_is_offline_unless_told(tmp_path, tiny_config, monkeypatch) -> None:
    given = {}

    class Run:
        def log(self, row, step) -> None:
            given["row"] = row, step

        def finish(self) -> None:
            given["over"] = True

    def init(**settings):
        given.update(settings)
        return Run()

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    log = RunLogger(tmp_path, tiny_config("loggers=[wandb]"), step=0, epoch=0)
    log.step({"step": 20, "loss": 2.0})
    log.close()
    assert given["mode"] == "offline"
    assert given["row"] == ({"step": 20.0, "loss": 2.0}, 20)
    assert given["over"]
