import json

import pytest
import torch
from torch import Tensor

from drfpn.data import ShapesDataset
from drfpn.data.base import Target
from drfpn.data.validation.issues import Issue
from drfpn.training import trainer
from drfpn.training.sampler import SeededSampler
from drfpn.training.skipped_images import SkippedImages, check_skipped_objects
from drfpn.training.trainer import fit
from drfpn.utils.errors import UserError


class Damaged(ShapesDataset):
    """Shapes, of which some cannot be read."""

    bad: tuple[int, ...] = ()

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if index in self.bad:
            raise UserError(f"{self.name(index)} cannot be decoded: truncated.")
        return super().__getitem__(index)


def damaged(length: int, *bad: int) -> Damaged:
    data = Damaged("train", length)
    data.bad = bad
    return data


def test_each_image_is_listed_once_and_counted_over_a_resume(tmp_path) -> None:
    skips = SkippedImages(tmp_path, ShapesDataset("train", 300))
    skips.add([("a.jpg", "a.jpg is bad."), ("a.jpg", "a.jpg is bad."), ("b.jpg", "b.jpg is bad.")])
    assert skips.num_pending == 2
    skips.synchronize()
    again = SkippedImages(tmp_path, ShapesDataset("train", 300))
    again.add([("a.jpg", "a.jpg is bad."), ("c.jpg", "c.jpg is bad.")])
    assert again.num_pending == 1
    again.synchronize()
    rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
    again.add([("d.jpg", "d.jpg is bad.")])
    with pytest.raises(UserError, match=r"4 of 300 images could not be read, more than 1%: .*skipped\.jsonl"):
        again.synchronize()


def test_objects_left_out_are_listed_first_and_too_many_are_refused(tmp_path) -> None:
    data = ShapesDataset("train", 40)
    bad = Issue("box-without-area", "a.json: annotation 7", "the box is x 1, y 1, width 0, height 3", "area")
    data.skipped_objects = (bad,)
    check_skipped_objects(data)
    SkippedImages(tmp_path, data)
    rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert rows == [{"object": bad.location, "reason": bad.observed}]
    SkippedImages(tmp_path, data)  # of a resumed run
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 1
    data.skipped_objects = (bad,) * (data.num_objects() // 50)
    with pytest.raises(UserError, match=r"^a.json: annotation 7: .*objects would be left out, more than 1%"):
        check_skipped_objects(data)


def test_an_exception_does_not_cost_the_images_that_are_not_listed_yet(tmp_path) -> None:
    skips = SkippedImages(tmp_path, ShapesDataset("train", 300))
    skips.add([("a.jpg", "a.jpg is bad.")])
    with pytest.raises(UserError, match="not finite"), skips.written_on_error():
        raise UserError("The loss is not finite.")
    assert [json.loads(line)["image"] for line in skips.file.read_text().splitlines()] == ["a.jpg"]
    assert skips.num_pending == 0


@pytest.mark.parametrize("grad_accum_steps", [1, 2])
def test_a_run_that_stops_within_a_step_lists_the_images_it_has_skipped(
    grad_accum_steps, tmp_path, tiny_config, monkeypatch
) -> None:
    def fail(*args: object) -> None:
        raise UserError("The loss is not finite.")

    (tmp_path / "notes.txt").touch()  # the folder of a run without a state is emptied only if it was empty
    monkeypatch.setattr(trainer, "train_step", fail)
    config = tiny_config("on_bad=skip", f"grad_accum_steps={grad_accum_steps}")
    first = next(iter(SeededSampler(4, config.seed)))[0]
    with pytest.raises(UserError, match="not finite"):
        trainer.fit(config, damaged(4, first), ShapesDataset("val", 2), tmp_path)
    (row,) = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert row["image"] == f"shapes/train/{first}"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_without_a_bad_image_and_says_so(workers, tmp_path, tiny_config, caplog) -> None:
    config = tiny_config("on_bad=skip", f"workers={workers}", epochs=2)
    fit(config, damaged(6, 2), ShapesDataset("val", 2), tmp_path)
    (row,) = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert row == {"image": "shapes/train/2", "reason": "shapes/train/2 cannot be decoded: truncated."}
    assert caplog.text.count("left out: shapes/train/2 cannot be decoded") == 1


def test_a_run_stops_where_too_many_are_bad_and_keeps_its_steps(tmp_path, tiny_config) -> None:
    config = tiny_config("on_bad=skip", epochs=1)
    with pytest.raises(UserError, match="of 8 images could not be read, more than 1%"):
        fit(config, damaged(8, 1, 2, 3), ShapesDataset("val", 2), tmp_path)
    assert (tmp_path / "state.pt").exists()
    fit(config, damaged(8, 1), ShapesDataset("val", 2), tmp_path / "other")  # one may be


@pytest.mark.parametrize("transforms", ["multiscale", "lsj", "photometric", "copy_paste"])
@pytest.mark.parametrize("model", ["faster_rcnn_lite0_fpn", "mask_rcnn_lite0_fpn"])
def test_every_preset_trains(transforms, model, tmp_path, tiny_config) -> None:
    config = tiny_config(f"transforms={transforms}", "log_every=1", epochs=1, model=model)
    val = ShapesDataset("val", 2, masks=config.masks)
    fit(config, ShapesDataset("train", 4, masks=config.needs_masks), val, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert torch.tensor(losses).isfinite().all()
