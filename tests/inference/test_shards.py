"""Shards of a prediction, and their merge."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from drfpn.inference import merge_shards, predict_files
from drfpn.utils.errors import UserError
from drfpn.utils.shard import Shard

RESULTS = ("results.json", "results.csv", "images.json", "categories.json")


def save_images(folder: Path, names: list[str]) -> list[Path]:
    """Write images with a bright rectangle each, of different sizes."""
    folder.mkdir()
    for number, name in enumerate(names):
        image = Image.new("RGB", (60, 50))
        ImageDraw.Draw(image).rectangle((number, 2 * number, 20 + 3 * number, 30 + number), fill="white")
        image.save(folder / name)
    return [folder / name for name in names]


@pytest.fixture
def images(tmp_path) -> list[Path]:
    return save_images(tmp_path / "photos", ["a, b.png", "c.png", "d.png", "e.png", "é.png"])


def contents(folder: Path, names: tuple[str, ...] = RESULTS) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_merged_results_of_shards_are_byte_equal_to_those_of_one_process(bright, tmp_path, images, count) -> None:
    """Also where a file of the first shard cannot be read, so that the ids of the others depend on it."""
    images[0].write_bytes(b"nothing")
    whole = predict_files(bright(), images, tmp_path / "whole")
    out = tmp_path / "out"
    for number in reversed(range(1, count + 1)):
        part = predict_files(bright(), images, out, shard=Shard(number, count))
        assert part.missing_shards == number - 1
        assert (out / "results.json").exists() is (number == 1)
    assert contents(out) == contents(tmp_path / "whole")
    pictures = {file.name: file.read_bytes() for file in (tmp_path / "whole").glob("*.jpg")}
    assert {file.name: file.read_bytes() for file in out.glob("*.jpg")} == pictures
    merged = merge_shards(out)
    assert contents(out) == contents(tmp_path / "whole")
    assert not list((out / "shards").glob("merge-*"))
    whole.missing_shards = 0
    assert merged == whole


def test_ids_of_file_names_are_kept(bright, tmp_path) -> None:
    files = save_images(tmp_path / "photos", ["000007.png", "000019.png", "000023.png"])
    predict_files(bright(), files, tmp_path / "whole")
    for number in (1, 2):
        predict_files(bright(), files, tmp_path / "out", shard=Shard(number, 2))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert [row["id"] for row in json.loads((tmp_path / "out/images.json").read_text())] == [7, 19, 23]


def test_frames_of_videos_have_the_ids_of_one_process(bright, tmp_path, images, write_video) -> None:
    write_video(tmp_path / "clip.mp4")
    files = [images[1], tmp_path / "clip.mp4", *images[2:]]
    predict_files(bright(), files, tmp_path / "whole", frame_stride=3)
    for number in (1, 2, 3):
        predict_files(bright(), files, tmp_path / "out", frame_stride=3, shard=Shard(number, 3))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_comparisons_are_merged(bright, tmp_path, images) -> None:
    names = (*RESULTS, "results-compare.json", "results-compare.csv", "categories-compare.json", "compare.json")
    whole = predict_files(bright(), images, tmp_path / "whole", compare_with=bright(name="two", label=2))
    for number in (1, 2):
        second = bright(name="two", label=2)
        predict_files(bright(), images, tmp_path / "out", compare_with=second, shard=Shard(number, 2))
    assert contents(tmp_path / "out", names) == contents(tmp_path / "whole", names)
    assert merge_shards(tmp_path / "out").compared == whole.compared


def test_a_shard_that_runs_again_counts_as_missing_until_it_ends(bright, tmp_path, images, monkeypatch) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        predict_files(bright(), images, out, shard=Shard(number, 2))
    predictor = bright()
    monkeypatch.setattr(predictor.model, "detect", lambda images: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception):
        predict_files(predictor, images, out, shard=Shard(2, 2))
    with pytest.raises(UserError, match=r"1 of 2 shards of .*out are not finished: 2/2; run them first"):
        merge_shards(out)


def test_shards_of_other_inputs_options_or_weights_are_not_merged(bright, tmp_path, images) -> None:
    out = tmp_path / "out"
    (tmp_path / "weights").write_bytes(b"old")
    old, new = bright(), bright()
    for predictor in (old, new):
        object.__setattr__(predictor, "file", tmp_path / "weights")
    predict_files(old, images, out, shard=Shard(1, 2))
    for files, threshold, weights in ((images[1:], 0.5, b"old"), (images, 0.6, b"old"), (images, 0.5, b"new")):
        (tmp_path / "weights").write_bytes(weights)
        summary = predict_files(new, files, out, score_threshold=threshold, shard=Shard(2, 2))
        assert summary.missing_shards == 1
        assert not (out / "results.json").exists()
        with pytest.raises(UserError, match=r"Shards 1/2 and 2/2 of .*out were made with different inputs"):
            merge_shards(out)


def test_what_cannot_be_merged_is_named(bright, tmp_path, images) -> None:
    with pytest.raises(UserError, match="holds no shards"):
        merge_shards(tmp_path)
    out = tmp_path / "out"
    predict_files(bright(), images, out, shard=Shard(1, 1))
    predict_files(bright(), images, out, shard=Shard(2, 3))
    assert merge_shards(out).images == 5  # the incomplete one is of an array that was given up
    for number in (1, 3):
        shutil.copytree(out / "shards/2-of-3", out / f"shards/{number}-of-3")
    with pytest.raises(UserError, match="in 1 shards and another in 3: remove one"):
        merge_shards(out)
