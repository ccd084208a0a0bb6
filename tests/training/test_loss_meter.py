import pytest
import torch

from drfpn.training.loss_meter import LossMeter
from drfpn.utils.errors import UserError


def terms(loss: float, part: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(loss), "loss_box_reg": torch.tensor(part)}


def test_terms_are_added_up_however_often_they_are_read() -> None:
    totals: list[dict[str, float]] = [{}, {}]
    for between, total in zip((1, 3), totals, strict=True):
        meter = LossMeter(total)
        for step in range(1, 7):
            meter.add(terms(step, step / 2), ["a"])
            if step % between == 0:
                assert meter.read(step, 7) == [7]
        assert meter.latest == {"loss": 6.0, "loss_box_reg": 3.0}
    assert totals == [{"loss": 21.0, "loss_box_reg": 10.5}] * 2


def test_what_was_summed_before_a_stop_is_gone_on_from() -> None:
    meter = LossMeter({"loss": 2.0, "loss_box_reg": 1.0})
    meter.add(terms(1.0, 0.5), ["a"])
    meter.read(4)
    assert meter.totals == {"loss": 3.0, "loss_box_reg": 1.5}


def test_a_term_that_is_not_finite_names_its_step_and_its_images() -> None:
    meter = LossMeter({})
    meter.add(terms(1.0, 0.5), ["a.jpg", "b.jpg"])
    meter.add(terms(float("nan"), 0.5), ["c.jpg", "d.jpg"])
    meter.add(terms(1.0, 0.5), ["e.jpg"])
    with pytest.raises(UserError, match=r"at step 11 \(loss nan, loss_box_reg 0.5\); the batch was c.jpg, d.jpg"):
        meter.read(10)
