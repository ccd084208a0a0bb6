"""Weights of runs on a Hub on loopback: what is downloaded, and how failures are told."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.hub import MAX_BYTES, HubName, download_weights, is_hub_name, parse_hub_name
from drfpn.utils.runs import WEIGHTS, find_weights, locate_run, name_runs
from tests.hub.fake_hub import Repo

FILES = {"best.safetensors": b"best", "last.safetensors": b"last", "state.pt": b"code", "../evil.safetensors": b"evil"}


@pytest.fixture
def repo(hub) -> Repo:
    repo = hub.repos["you/run"] = Repo()
    repo.commit(FILES)
    return repo


def test_names_of_the_hub_begin_with_hf() -> None:
    assert [is_hub_name(name) for name in ("hf:a/b", Path("hf:a/b"), "runs/a", "torchvision", None)] == [
        *(True, True, False, False, False)
    ]
    assert parse_hub_name(Path("hf:a-1/b.c_2@refs/pr/1")) == HubName("a-1/b.c_2", "refs/pr/1")
    assert str(parse_hub_name("hf://a/b")) == "hf:a/b"


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b--c", "hf:a/b@", "hf:a/b@../../c", "hf:a/b@x y", "hf:ä/b"],
)
def test_names_of_another_form_are_refused_without_a_request(hub, name) -> None:
    with pytest.raises(UsageError, match=r"hf:USER/NAME|the revision must be"):
        locate_run(name)
    assert hub.requests == []


def test_only_the_best_weights_are_downloaded_and_only_once(hub, repo) -> None:
    file = find_weights("hf:you/run")
    assert file.read_bytes() == b"best"
    assert Path(constants.HF_HUB_CACHE) in file.parents
    asked = len(hub.requests)
    assert locate_run(Path("hf:you/run")) == file
    assert len(hub.requests) == asked
    download_weights.cache_clear()  # as in another process
    assert find_weights("hf:you/run") == file
    assert hub.downloads() == ["main/best.safetensors"]


def test_the_last_weights_serve_where_there_are_no_best(hub, repo) -> None:
    del next(iter(repo.commits.values()))["best.safetensors"]
    assert find_weights("hf:you/run").read_bytes() == b"last"


def test_a_revision_is_a_tag_or_a_commit_or_else_the_newest(hub, repo) -> None:
    (first,) = repo.commits
    repo.tags["v1.0"] = first
    repo.commit({"best.safetensors": b"better"})
    assert find_weights("hf:you/run").read_bytes() == b"better"
    assert find_weights("hf:you/run@v1.0").read_bytes() == b"best"
    assert find_weights(f"hf:you/run@{first}").read_bytes() == b"best"
    with pytest.raises(UserError, match=r"^hf:you/run has no branch, tag or commit 'v2'\.$"):
        find_weights("hf:you/run@v2")


@pytest.mark.parametrize("offline", ["stopped", "variable"])
def test_without_a_network_the_cache_serves(hub, repo, monkeypatch, caplog, offline) -> None:
    file = find_weights("hf:you/run")
    download_weights.cache_clear()
    if offline == "stopped":
        hub.stop()
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_weights("hf:you/run") == file
    assert "is read from the cache" in caplog.text
    with pytest.raises(UserError, match=r"^The Hub cannot be reached \(\w+\), so hf:you/other is not available\.$"):
        find_weights("hf:you/other")


def test_a_hub_that_fails_is_like_none(hub, repo, monkeypatch) -> None:
    monkeypatch.setattr("tests.hub.fake_hub.Handler.info", lambda self, *arguments: self.refuse(503))
    with pytest.raises(UserError, match=r"The Hub fails \(status 503\), so hf:you/run is not available"):
        find_weights("hf:you/run")


def test_a_reason_of_the_hub_is_told_in_one_line(hub, repo, monkeypatch) -> None:
    reply = {"error": "slow down\n\x1b[31mplease."}
    monkeypatch.setattr("tests.hub.fake_hub.Handler.info", lambda self, *arguments: self.reply(reply, 418))
    with pytest.raises(UserError, match=r"^The Hub refuses hf:you/run \(status 418\): slow down\\n\\x1b\[31mplease\.$"):
        find_weights("hf:you/run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"private": True},
            r"There is no hf:you/run on the Hub or, if it is private, no access to it: .*hf auth login",
        ),
        ({"gated": True}, "hf:you/run is gated: ask for access"),
        ({"sizes": {"best.safetensors": MAX_BYTES + 1}}, "best.safetensors has 8.6 GB"),
        ({"commits": {"a" * 40: {"pytorch_model.bin": b"code"}}}, "is not a run of drfpn: it has no best.safetensors"),
        ({"commits": {}}, "is not a run of drfpn"),
    ],
)
def test_what_cannot_be_had_is_one_sentence_and_nothing_is_downloaded(hub, repo, monkeypatch, change, message) -> None:
    monkeypatch.delenv("HF_TOKEN")
    for name, value in change.items():
        setattr(repo, name, value)
    with pytest.raises(UserError, match=message) as error:
        find_weights("hf:you/run")
    assert "\n" not in str(error.value)
    assert not [file for file in hub.downloads() if not repo.gated]
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.safetensors"))


def test_a_name_that_nobody_has_is_one_sentence(hub) -> None:
    with pytest.raises(UserError, match="There is no hf:you/nothing on the Hub"):
        find_weights("hf:you/nothing")


@pytest.mark.parametrize(
    "answer",
    [
        *(b"<html>", b"", [], {}, "text", {"id": "you/run", "siblings": "text"}),
        {"id": "you/run", "siblings": [{"rfilename": 3}]},
        {"id": "you/run", "sha": 5, "siblings": [{"rfilename": "best.safetensors", "size": "large"}]},
        {"id": "you/run", "siblings": [{"rfilename": "../../best.safetensors", "size": 4}]},
    ],
)
def test_hostile_answers_are_one_sentence(hub, repo, answer) -> None:
    hub.answer = answer
    with pytest.raises(UserError, match="hf:you/run") as error:
        find_weights("hf:you/run")
    assert "\n" not in str(error.value)
    assert hub.downloads() == []


def test_runs_of_the_hub_are_called_by_their_names() -> None:
    assert name_runs([Path("hf:a/x"), Path("runs/y")]) == ["x", "y"]
    assert name_runs([Path("hf:a/x"), Path("hf:b/x")]) == ["a/x", "b/x"]
    assert name_runs([Path("hf:a/x@v1"), Path("hf:a/x@refs/pr/1")]) == ["x@v1", "x@refs-pr-1"]


def test_a_missing_local_run_is_not_looked_for_on_the_hub(hub) -> None:
    with pytest.raises(UserError, match="There is no run or weights file you/run"):
        find_weights("you/run")
    assert hub.requests == []
    assert WEIGHTS == ("best.safetensors", "last.safetensors")
