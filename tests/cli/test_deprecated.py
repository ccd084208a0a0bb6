"""Former names of options and tables are accepted with a note."""

import json
from pathlib import Path

import pytest
from typer.main import get_command

from drfpn.ablations.tables import TABLES
from drfpn.cli import deprecated
from drfpn.cli.app import app
from drfpn.utils.errors import UsageError

OPTIONS = [(command, old, new) for command, names in deprecated.OPTIONS.items() for old, new in names.items()]


@pytest.mark.parametrize(("command", "old", "new"), OPTIONS)
def test_a_former_option_is_replaced_by_one_of_the_command(command, old, new) -> None:
    cli = get_command(app)
    for name in command.split():
        cli = cli.commands[name]
    options = [option for parameter in cli.params for option in parameter.opts]
    assert new in options
    assert old not in options
    words = command.split()
    for given, replaced in (([old, "3"], [new, "3"]), ([f"{old}=3"], [f"{new}=3"])):
        assert deprecated.rename_options([*words, "x", *given]) == (
            [*words, "x", *replaced],
            [f"{old} is now {new}"],
        )


@pytest.mark.parametrize(("command", "old", "new"), OPTIONS)
def test_both_names_of_an_option_cannot_be_given_together(command, old, new) -> None:
    for arguments in ([old, "3", new, "4"], [f"{new}=4", f"{old}=3"]):
        with pytest.raises(UsageError, match=f"^{old} is the former name of {new}: give one of them.$"):
            deprecated.rename_options([*command.split(), *arguments])


def test_the_error_of_an_option_given_by_both_names_is_one_sentence(drfpn) -> None:
    result = drfpn("train", "faster_rcnn_lite0_fpn", "--data", "shapes", "--first", 3, "--max-train-images", 4)
    assert (result.code, result.out) == (2, "")
    assert result.err == "drfpn: --first is the former name of --max-train-images: give one of them.\n"


def test_other_arguments_are_left_alone() -> None:
    for arguments in (
        ["predict", "run", "--out", "a", "--score-threshold", "0.3"],
        ["eval", "--score", "0.3"],
        ["predict", "run", "--", "--score"],
        ["--help"],
        [],
    ):
        assert deprecated.rename_options(arguments) == (arguments, [])


def test_a_former_table_is_one_of_today() -> None:
    for old, new in deprecated.TABLES.items():
        assert old not in TABLES
        assert new in TABLES
        assert deprecated.rename_table(old) == (new, f"{old} is now {new}")
    assert deprecated.rename_table("table2") == ("table2", None)


def test_the_note_is_on_stderr_and_the_rest_as_with_the_new_names(drfpn, trained, coco) -> None:
    run, images = trained / "run", coco / "val2017"
    new = drfpn("predict", run, images, "--out", "new", "--score-threshold", 0.01, "--json")
    old = drfpn("predict", run, images, "--out", "old", "--score", 0.01, "--every=1", "--json")
    assert old.code == 0, old.err
    assert "--score is now --score-threshold\n--every is now --frame-stride\n" in old.err
    assert "is now" not in new.err
    assert json.loads(old.out) | {"out": "new"} == json.loads(new.out)
    assert Path("old/results.csv").read_text() == Path("new/results.csv").read_text()


def test_a_former_table_is_listed_with_a_note(drfpn) -> None:
    old, new = (drfpn("ablate", name, "--list", "--json") for name in ("rivals", "baselines"))
    assert old.code == 0, old.err
    assert old.err == "rivals is now baselines\n"
    assert old.out == new.out


def test_help_does_not_name_former_options(drfpn) -> None:
    for command, old, _ in OPTIONS:
        words = drfpn(*command.split(), "--help").out.replace("│", " ").split()
        assert old not in words
