"""``drfpn push``, and commands with runs of a Hub on loopback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from drfpn.cli.export import _beside_weights
from drfpn.utils.hub import download_weights


@pytest.fixture
def pushed(drfpn, hub, trained) -> None:
    assert drfpn("push", trained / "run", "me/mine").code == 0
    hub.requests.clear()


def test_push_prints_the_page_and_says_what_is_uploaded(drfpn, hub, trained) -> None:
    result = drfpn("push", trained / "run", "me/mine")
    assert result.code == 0, result.err
    assert result.out == f"{hub.url}/me/mine (private): use it as hf:me/mine\n"
    assert "to hf:me/mine, private" in result.err
    assert "--license apache-2.0 states one" in result.err
    written = json.loads(drfpn("push", trained / "run", "us/mine", "--public", "--no-pictures", "--json").out)
    assert written["private"] is False
    assert written["commit"] in hub.repos["us/mine"].commits
    assert not [name for name in written["files"] if "pictures" in name]


def test_the_pictures_of_a_trained_run_are_pushed(drfpn, hub, trained) -> None:
    files = json.loads(drfpn("push", trained / "run", "me/mine", "--json").out)["files"]
    pictures = {f"pictures/{file.name}" for file in (trained / "run" / "pictures").iterdir()}
    assert pictures
    assert pictures <= set(files)
    assert str(trained).encode() not in b"".join(hub.repos["me/mine"].commits.popitem()[1].values())


def test_predict_and_eval_take_a_run_of_the_hub(drfpn, hub, pushed, trained) -> None:
    data = trained / "coco"
    outputs = {}
    for name in ("hf:me/mine", trained / "run"):
        result = drfpn("predict", name, data / "val2017", "--out", "out")
        assert result.code == 0, result.err
        outputs[name] = Path("out/results.json").read_bytes()
    assert len(set(outputs.values())) == 1
    remote, local = (
        json.loads(drfpn("eval", name, "--data", data, "--json").out) for name in ("hf:me/mine", trained / "run")
    )
    assert remote == local
    assert hub.downloads() == ["main/best.safetensors"]


def test_a_training_starts_from_a_run_of_the_hub(drfpn, hub, pushed, trained) -> None:
    from drfpn.training import resolve
    from drfpn.training.source_run import check_weights, is_run

    assert is_run("hf:me/mine")
    check_weights("hf:me/mine")
    config = resolve("faster_rcnn_lite0_fpn", "shapes", weights="hf:me/mine")
    assert (config.weights, config.width, config.min_size) == ("hf:me/mine", 16, 64)
    result = drfpn("train", "faster_rcnn_lite0_fpn", "--data", "shapes", "--weights", "hf:me/nothing")
    assert result.code == 1
    assert "There is no hf:me/nothing on the Hub" in result.err


def test_an_export_of_a_run_of_the_hub_goes_to_the_current_folder() -> None:
    assert _beside_weights(Path("hf:me/mine")).with_suffix(".onnx") == Path("mine.onnx")
    assert _beside_weights(Path("hf:me/mine@v1.0")).with_suffix(".onnx") == Path("mine@v1.0.onnx")


def test_a_report_is_made_of_local_runs(drfpn, hub) -> None:
    result = drfpn("report", "hf:me/mine")
    assert result.code == 2
    assert "hf:me/mine is on the Hub, without the logs" in result.err
    assert hub.requests == []


@pytest.mark.parametrize(
    "command",
    [
        "predict {} photo.jpg --out out",
        "eval {} --data shapes",
        "export {} --format pt2",
        "view gates {} p.jpg --out o",
    ],
)
def test_a_run_that_is_not_on_the_hub_is_one_sentence(drfpn, hub, command) -> None:
    from PIL import Image

    for name in ("photo.jpg", "p.jpg"):
        Image.new("RGB", (40, 40)).save(name)
    result = drfpn(*command.format("hf:me/nothing").split())
    assert result.code == 1
    assert result.err == (
        "drfpn: There is no hf:me/nothing on the Hub or, if it is private, no access to it: run 'hf auth login' with "
        "an account that has access.\n"
    )


def test_push_without_a_token_names_the_command_that_brings_it(drfpn, hub, trained, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    result = drfpn("push", trained / "run", "me/mine")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("drfpn: There is no token of the Hugging Face Hub: run 'hf auth login'")
    assert len(result.err.splitlines()) == 1


def test_the_visibility_of_a_push_is_told_as_an_option(drfpn, hub, trained) -> None:
    from tests.hub.fake_hub import Repo

    hub.repos["me/mine"] = Repo(private=False)
    result = drfpn("push", trained / "run", "me/mine")
    assert result.code == 2
    assert "give --public to publish this run too" in result.err


def test_the_weights_of_other_files_are_refused_with_their_name(drfpn, hub) -> None:
    from tests.hub.fake_hub import Repo

    repo = hub.repos["me/mine"] = Repo()
    for data in (b"not tensors", b"\x80\x04code."):
        repo.commit({"best.safetensors": data})
        download_weights.cache_clear()
        result = drfpn("eval", "hf:me/mine", "--data", "shapes")
        assert result.code == 1
        assert "is not a safetensors file that can be read" in result.err


def test_the_client_of_the_hub_is_imported_only_where_it_is_needed() -> None:
    code = "import sys; from drfpn.cli.app import app; import drfpn.utils.runs; print('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
