"""Plots of the tensors of a neck from the command line."""

import json

import pytest


@pytest.fixture
def image(trained):
    return next((trained / "coco/val2017").glob("*.png"))


def test_offsets_and_gates_are_drawn_and_judged(trained, drfpn, image, tmp_path) -> None:
    done = drfpn("view", "offsets", trained / "run", image, "--out", "seen", "--json")
    assert done.code == 0, done.err
    output = json.loads(done.out)
    assert output["files"] == ["seen/offsets.png", "seen/offsets.json"]
    assert json.loads((tmp_path / "seen/offsets.json").read_text())["weights"] == output["weights"]
    assert [diagnosis["pair"] for diagnosis in output["offsets"]] == ["C2-C3", "C3-C4", "C4-C5"]
    printed = drfpn("view", "gates", trained / "run", image, "--out", "seen")
    assert printed.out.count("gates C") == 3
    averaged = drfpn("view", "gates", trained / "run", "--data", trained / "coco", "--max-images", "3", "--out", "all")
    assert averaged.out.count("gates C") == 3
    assert (tmp_path / "all/gates.png").exists()


def test_features_of_several_runs_are_drawn_beside_each_other(trained, drfpn, image, tmp_path) -> None:
    weights = trained / "run/best.safetensors"
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    done = drfpn("view", "features", weights, other, image, "--out", "seen", "--channels", "3, 1", "--json")
    assert done.code == 0, done.err
    output = json.loads(done.out)
    assert output == {
        "files": ["seen/before-run.png", "seen/before-other.png", "seen/after.png"],
        "channels": [3, 1],
        "level": "C2",
    }
    assert all((tmp_path / file).exists() for file in output["files"])
    mean = drfpn("view", "features", weights, image, "--out", "mean", "--channels", "mean", "--level", "2")
    assert mean.code == 0, mean.err


def test_mistakes_leave_a_sentence_and_no_folder(trained, drfpn, image, tmp_path) -> None:
    run = trained / "run"
    for arguments, message in (
        (["features", image], "Give at least one run, and an image after it."),
        (["features", run, image, "--channels", "16"], "channels 0 to 15"),
        (["features", run, image, "--channels", "best"], "--channels is 'best'"),
        (["features", run, image, "--level", "3"], "--level is 3, expected 0 to 2"),
        (["features", run, run, image], "give each once"),
        (["gates", run], "Give either an image or --data."),
        (["offsets", run, "nowhere.png"], "nowhere.png"),
        (["offsets", "nowhere", image], "nowhere"),
    ):
        done = drfpn("view", *arguments, "--out", "seen")
        assert done.code in (1, 2), arguments
        assert message in done.err, (arguments, done.err)
        assert "Traceback" not in done.err
    assert not (tmp_path / "seen").exists()
