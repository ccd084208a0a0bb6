"""The file of results of finished runs."""

import json
from threading import Thread

import numpy as np
import pytest

from drfpn.ablations.store import Store, dataset_digest
from drfpn.data import ShapesDataset
from drfpn.evaluation import analyze, evaluate_results
from drfpn.evaluation.bootstrap import bootstrap_ap
from drfpn.evaluation.matching import match_detections
from drfpn.training import resolve
from drfpn.utils.errors import UserError


def test_what_is_kept_is_read_again(tmp_path, make_record) -> None:
    store = Store(tmp_path / "results.jsonl")
    for row, seed in (("fpn", 1), ("drfpn", 0), ("fpn", 0)):
        store.add(make_record(row, seed))
    again = Store(tmp_path / "results.jsonl")
    assert again.records == store.records
    assert {row: list(runs) for row, runs in again.select(["fpn", "srb"]).items()} == {"fpn": [0, 1], "srb": []}
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3


def test_a_line_that_is_no_run_is_named(tmp_path, make_record) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(make_record().model_dump_json() + '\n{"row": "fpn"}\n')
    with pytest.raises(UserError, match=r"results\.jsonl, line 2: 'seed': Field required"):
        Store(file)
    file.write_text("half a li")
    with pytest.raises(UserError, match=r"line 1: .*Invalid JSON"):
        Store(file)


def test_runs_with_other_settings_or_on_other_images_are_not_taken_for_these(tmp_path, make_record) -> None:
    store = Store(tmp_path / "results.jsonl")
    record = make_record()
    store.add(record)
    same = resolve("faster_rcnn_lite0_fpn", "elsewhere/shapes", seed=0, overrides=["workers=0"])
    store.check([("fpn", same), ("drfpn", same)], record.data)
    with pytest.raises(UserError, match=r"'fpn', seed 0, trained with epochs=12, not 3"):
        store.check([("fpn", resolve("faster_rcnn_lite0_fpn", "shapes", seed=0, epochs=3))], record.data)
    with pytest.raises(UserError, match="measured on another 'val' split than that of elsewhere/shapes"):
        store.check([("fpn", same)], "1" * 16)


def test_a_digest_tells_data_apart_but_not_where_it_lies() -> None:
    truth = ShapesDataset("val", 3).ground_truth()
    same = json.loads(json.dumps(truth))
    for image in same["images"]:
        image["file_name"] = "elsewhere/" + str(image.get("file_name"))
    same["annotations"].reverse()
    assert dataset_digest(same) == dataset_digest(truth)
    same["annotations"][0]["bbox"][0] += 1
    assert dataset_digest(same) != dataset_digest(truth)


def test_resamples_are_paired_and_center_on_ap() -> None:
    truth = ShapesDataset("val", 20).ground_truth()
    rng = np.random.default_rng(0)
    results = [
        {**{k: row[k] for k in ("image_id", "category_id", "bbox")}, "score": float(rng.uniform())}
        for row in truth["annotations"]
        if rng.uniform() < 0.6
    ]
    matches = match_detections("hotcoco", truth, results, "bbox")
    drawn = bootstrap_ap(matches, resamples=300)
    assert (bootstrap_ap(matches, resamples=300) == drawn).all()
    assert drawn.mean() == pytest.approx(evaluate_results(truth, results).box["AP"], abs=0.05)
    low, high = analyze(truth, results, resamples=300).box.interval
    assert high - low == pytest.approx(np.subtract(*np.quantile(drawn, [0.975, 0.025])))


def test_results_of_several_processes_are_kept_in_the_order_of_one(tmp_path, make_record) -> None:
    keys = [(row, seed) for row in ("fpn", "drfpn", "srb") for seed in (0, 1)]
    one = Store(tmp_path / "one/results.jsonl")
    for key in keys:
        one.add(make_record(*key))
    stores = [Store(tmp_path / "two/results.jsonl") for _ in keys]  # opened before any has a result
    threads = [
        Thread(target=store.add, args=(make_record(*key),)) for store, key in zip(stores, keys[::-1], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "two/results.jsonl").read_bytes() == (tmp_path / "one/results.jsonl").read_bytes()
    with stores[0].locked():
        assert len(stores[0].records) == len(keys)
