"""Tables on stdout show names literally."""

import pytest

from drfpn.cli.common import make_console, print_metrics, print_rows
from drfpn.evaluation import Metrics
from drfpn.evaluation.metrics import COCO_METRICS
from drfpn.utils import console
from drfpn.utils.formatting import printable
from tests.names import NAMES


def metrics(value: float | None, *classes: str) -> Metrics:
    box = dict.fromkeys(COCO_METRICS, value)
    per_class = {name: {"AP": value, "AP50": value} for name in classes}
    return Metrics(backend="hotcoco", split="[/val]", images=5, detections=0, box=box, per_class=per_class)


@pytest.fixture(autouse=True)
def _wide(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_the_table_of_metrics_has_the_name_of_each_class(capsys) -> None:
    print_metrics(metrics(0.5, *NAMES.values()))
    out = capsys.readouterr().out
    assert "5 images of '[/val]'" in out
    for name in NAMES.values():
        assert f" {printable(name)} " in out.replace("│", "")


def test_metrics_without_objects_are_dashes_with_a_sentence(capsys) -> None:
    print_metrics(metrics(None, "bolt"))
    out = capsys.readouterr().out
    assert "The split has no objects, so no metric is defined." in out
    assert "│ bolt  │  - │    - │" in out
    assert "-100" not in out


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_titles_and_messages_are_literal(name, capsys) -> None:
    print_rows(name, {name: name})
    make_console().print(name)
    console.say(name)
    captured = capsys.readouterr()
    if name.isprintable():
        assert captured.out.startswith(name) or len(name) > 200
        assert " ".join(captured.err.split()) == " ".join(name.split())


def test_a_progress_bar_has_a_literal_title(monkeypatch) -> None:
    terminal = console.Console(force_terminal=True, width=100, record=True, markup=False, emoji=False)
    monkeypatch.setattr(console, "console", terminal)
    with console.bar("reading [/i] :bolt: {0}", 2) as progress:
        progress.advance("[/loss] :smile:")
    shown = terminal.export_text()
    assert "reading [/i] :bolt: {0}" in shown
    assert "[/loss] :smile:" in shown


def test_a_folder_is_named_literally_in_an_error(drfpn) -> None:
    result = drfpn("train", "--resume", "--out", "run [/i] #1 100% :x:")
    assert result.code == 1
    assert result.err == "drfpn: There is no run to resume in run [/i] #1 100% :x:: state.pt is missing.\n"
