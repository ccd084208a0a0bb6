"""A run is pushed to a Hub on loopback, and detects the same from there."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from drfpn.hub import push
from drfpn.inference import load_predictor
from drfpn.training import load_detector
from drfpn.training.checkpoint import load_card
from drfpn.utils.errors import UsageError, UserError
from tests.hub.fake_hub import Repo


def uploads(hub) -> list[str]:
    return [path for method, path in hub.requests if method == "POST"]


def test_a_run_from_the_hub_detects_bit_for_bit_the_same(hub, run) -> None:
    push(run, "me/mine")
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
    predictor = load_predictor("hf:me/mine")
    local, remote = load_predictor(run)(image), predictor(image)
    assert len(local) > 0
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(getattr(local, name), getattr(remote, name))
    assert (remote.classes, predictor.name) == (local.classes, "mine")
    assert hub.downloads() == ["main/best.safetensors"]


def test_the_python_of_the_page_runs(hub, run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (90, 60)).save("photo.jpg")
    hub.repos["user/name"] = Repo()
    hub.repos["user/name"].commit({"best.safetensors": (run / "best.safetensors").read_bytes()})
    page = (Path(__file__).parents[2] / "docs/hub.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(code, "hub.md", "exec"), {})
    assert hub.downloads() == ["main/best.safetensors"]


def test_a_local_run_is_loaded_without_the_hub(hub, run) -> None:
    load_detector(run)
    load_predictor(run / "best.safetensors")
    assert hub.requests == []


def test_a_push_is_private_unless_public_is_given(hub, run) -> None:
    assert push(run, "me/mine").private
    assert hub.repos["me/mine"].private
    result = push(run, "us/shared", public=True)
    assert result.url == f"{hub.url}/us/shared"
    assert not hub.repos["us/shared"].private


@pytest.mark.parametrize(
    ("private", "public", "message"), [(False, False, "`public=True`"), (True, True, "is private")]
)
def test_a_push_does_not_go_to_a_repository_of_another_visibility(hub, run, private, public, message) -> None:
    hub.repos["me/mine"] = Repo(private=private)
    with pytest.raises(UsageError, match=message):
        push(run, "me/mine", public=public)
    assert uploads(hub) == []


def test_each_push_is_a_commit_that_can_be_used_by_its_id(hub, run) -> None:
    first = push(run, "me/mine")
    card = load_card(run)
    (run / "best.safetensors").unlink()
    (run / "last.safetensors").rename(run / "best.safetensors")
    second = push(run, "me/mine", license="mit")
    assert first.commit != second.commit
    assert load_card(f"hf:me/mine@{first.commit}").classes == card.classes
    assert [name.split("/")[0] for name in hub.downloads()] == [first.commit]


def test_only_what_others_may_see_is_uploaded(hub, run, tmp_path) -> None:
    result = push(run, "me/mine")
    files = hub.repos["me/mine"].commits[result.commit]
    assert set(files) == set(result.files)
    assert set(files) == {
        *("best.safetensors", "config.yaml", "metrics.json", "pictures/seen.jpg", "curves.png", "README.md")
    }
    for name, data in files.items():
        assert str(tmp_path).encode() not in data, name
    settings = yaml.safe_load(files["config.yaml"])
    assert (settings["data"], settings["images"], settings["width"]) == ("farm", "photos", 16)
    assert json.loads(files["metrics.json"])["source"] == "val.json"
    assert "/m/01yrx" in json.loads(files["metrics.json"])["per_class"]


def test_the_uploaded_card_has_the_uploaded_settings(hub, run, tmp_path) -> None:
    commit = push(run, "me/mine").commit
    files = hub.repos["me/mine"].commits[commit]
    (tmp_path / "pulled.safetensors").write_bytes(files["best.safetensors"])
    card = load_card(tmp_path / "pulled.safetensors")
    assert card.config.to_yaml().encode() == files["config.yaml"]
    assert (card.epoch, card.metrics["AP"]) == (3, 0.5)
    with safe_open(tmp_path / "pulled.safetensors", "pt") as pulled, safe_open(run / "best.safetensors", "pt") as mine:
        assert set(pulled.keys()) == set(mine.keys())
        assert all(torch.equal(pulled.get_tensor(key), mine.get_tensor(key)) for key in mine.keys())  # noqa: SIM118


def test_pictures_can_be_left_out(hub, run) -> None:
    assert set(push(run, "me/mine", pictures=False).files) == {
        *("best.safetensors", "config.yaml", "metrics.json", "README.md")
    }


def test_weights_alone_can_be_pushed(hub, run, tmp_path) -> None:
    file = (run / "best.safetensors").rename(tmp_path / "detector.safetensors")
    assert set(push(file, "me/mine").files) == {"best.safetensors", "config.yaml", "README.md"}


@pytest.mark.parametrize(
    ("token", "role", "repo", "message"),
    [
        (None, "write", "me/mine", "There is no token .* 'hf auth login'"),
        ("hf_other", "write", "me/mine", "not valid: run 'hf auth login --force'"),
        ("hf_of_me", "read", "me/mine", "may only read"),
        ("hf_of_me", "write", "you/mine", "belongs to me, us, not to 'you': push to me/mine"),
    ],
)
def test_the_token_is_checked_before_anything_is_written(hub, run, monkeypatch, token, role, repo, message) -> None:
    hub.role = role
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UserError, match=message):
        push(run, repo)
    assert uploads(hub) == []


def test_a_token_of_chosen_rights_may_name_no_organizations(hub, run) -> None:
    hub.role = "fineGrained"
    assert push(run, "others/mine").private


@pytest.mark.parametrize(
    ("repo", "license", "message"),
    [
        ("mine", None, "hf:USER/NAME"),
        ("me/../mine", None, "hf:USER/NAME"),
        ("me/mine@v1", None, "no revision: me/mine"),
        ("me/mine", "Apache 2.0", "'apache-2.0', not 'Apache 2.0'"),
    ],
)
def test_wrong_arguments_are_refused_before_the_hub_is_asked(hub, run, repo, license, message) -> None:
    with pytest.raises(UsageError, match=message):
        push(run, repo, license=license)
    assert hub.requests == []


def test_a_folder_that_is_no_run_is_refused_before_the_hub_is_asked(hub, tmp_path, run) -> None:
    with pytest.raises(UserError, match="is not a run"):
        push(tmp_path, "me/mine")
    assert hub.requests == []


@pytest.mark.parametrize("text", ["[1, 2", "[1, 2]", '"text"'])
def test_metrics_that_cannot_be_read_are_named_and_nothing_is_written(hub, run, text) -> None:
    (run / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
        push(run, "me/mine")
    assert uploads(hub) == []


def test_a_license_that_the_hub_does_not_know_is_named(hub, run) -> None:
    with pytest.raises(UserError, match=r"`license='bad'`.*must be one of"):
        push(run, "me/mine", license="bad")


def test_a_push_without_a_network_is_one_sentence(hub, run) -> None:
    hub.stop()
    with pytest.raises(UserError, match=r"^The Hub cannot be reached \(\w+\), so hf:me/mine is not available\.$"):
        push(run, "me/mine")
