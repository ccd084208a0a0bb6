import json
import sys
from pathlib import Path


def test_a_bad_file_does_not_cost_the_other_predictions(drfpn, trained, coco) -> None:
    (coco / "val2017" / "000000000009.jpg").write_bytes(b"not a picture")
    result = drfpn("predict", trained / "run", coco / "val2017", "--out", "out")
    assert result.code == 1
    assert "000000000009.jpg" in result.err
    assert "1 of 5 files could not be read (" in result.err
    assert len(list(Path("out").glob("*.jpg"))) == 4


def test_two_detectors_are_compared(drfpn, trained, coco) -> None:
    args = (coco / "val2017", "--score-threshold", 0.01, "--out", "out", "--json")
    result = drfpn("predict", trained / "run", *args, "--compare", trained / "run")
    assert result.code == 0, result.err
    counts = json.loads(result.out)["compared"]
    assert counts["only_left"] == counts["only_right"] == 0
    written = json.loads(Path("out/compare.json").read_text())
    assert written["all"] == counts
    assert written["left"] != written["right"]
    assert sum(row["both"] for row in written["images"]) == counts["both"]
    printed = drfpn("predict", trained / "run", *args[:-1], "--compare", trained / "run").out
    assert f"detected by both {counts['both']}, only by the first 0, only by the second 0" in printed


def test_tiles_are_those_of_the_options_and_one_tile_is_the_whole_image(drfpn, trained, coco) -> None:
    run = ("predict", trained / "run", next((coco / "val2017").iterdir()))
    for name, options in {"plain": [], "large": ["--tile", 4000], "small": ["--tile", 100, "--no-tile-full"]}.items():
        result = drfpn(*run, "--out", name, *options)
        assert result.code == 0, result.err
    plain, large, small = (Path(name, "results.json").read_bytes() for name in ("plain", "large", "small"))
    assert plain == large
    assert plain != small
    assert max(max(row["bbox"][2:]) for row in json.loads(small)) <= 100


def test_a_pattern_in_quotes_is_expanded(drfpn, trained, coco) -> None:
    result = drfpn("predict", trained / "run", "coco/val*/*.png", "--out", "out", "--json")
    assert json.loads(result.out)["images"] == 4


def test_a_video_without_pyav_is_refused_with_what_to_install(drfpn, trained, coco, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    Path("a.mp4").touch()
    result = drfpn("predict", trained / "run", coco / "val2017", "a.mp4", "--out", "out")
    assert result.code == 1
    assert 'pip install "drfpn[video]"' in result.err
    assert not Path("out").exists()
