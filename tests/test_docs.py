"""What README and docs say is tried here, as far as it runs in seconds."""

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from drfpn import DRFPN, build_detector
from drfpn.export import export_metadata, to_pt2
from drfpn.training import RunConfig, resolve
from drfpn.training.checkpoint import Card, build, save_detector

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def small_card() -> Card:
    config = resolve("faster_rcnn_lite0_drfpn", "dataset", overrides=("width=16", "weights_backbone=null"))
    return Card(config=config, classes=("a", "b"), category_ids=(1, 2))


def test_the_readmes_python_runs(capsys) -> None:
    (use,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(use, "README.md", "exec"), {})
    assert "'3': (1, 256, 8, 12)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_python_that_runs_an_archive_needs_no_drfpn(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    card = small_card()
    model = build(card)
    model.roi_heads.box_predictor.cls_score.bias.data[1] = 3  # random weights that are sure of it
    to_pt2(model, Path("best.pt2"), export_metadata(model, card))
    Image.new("RGB", (131, 97), "gray").save("photo.jpg")
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/exporting.md").read_text(), flags=re.DOTALL)[-1]
    assert "drfpn." not in code.replace("drfpn.json", "")
    capsys.readouterr()
    exec(compile(code, "exporting.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("a ") for line in lines)


def test_the_python_of_the_predicting_page_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    card = small_card()
    run = Path("runs/faster_rcnn_lite0_drfpn-dataset-1")
    run.mkdir(parents=True)
    save_detector(run / "best.safetensors", build(card), card)
    Image.new("RGB", (90, 60)).save("photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/predicting.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "predicting.md", "exec"), {})
    assert Path("found.jpg").is_file()


def test_the_python_that_puts_drfpn_into_torchvisions_detector_runs_and_counts_the_background() -> None:
    text = (ROOT / "docs/integrations.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[-1]
    variables: dict[str, Any] = {}
    exec(compile(code, "integrations.md", "exec"), variables)
    model = variables["model"]
    assert isinstance(model.backbone.fpn, DRFPN)
    ours = build_detector("faster_rcnn_lite0_fpn", num_classes=3)
    assert model.roi_heads.box_predictor.cls_score.out_features == 4
    assert ours.roi_heads.box_predictor.cls_score.out_features == 4


def test_every_setting_of_the_training_page_exists() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs/training.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert len(named) > 15
    assert set(named) <= set(RunConfig.model_fields)


def test_every_command_of_the_readme_exists() -> None:
    from drfpn.cli.app import app

    command = get_command(app)
    groups = ("data", "view")
    known = set(command.commands) | {f"{group} {name}" for group in groups for name in command.commands[group].commands}
    code = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)) + "\n".join(
        re.findall("`[^`\n]+`", README)
    )
    named = re.findall(r"^`?drfpn ((?:data |view )?)([a-z|\\]+)", code, flags=re.MULTILINE)
    assert len(named) > 10
    for group, names in named:
        for name in names.split("\\|"):
            assert group + name in known, group + name


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/**/README.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert page.parent.joinpath(target).exists(), target
