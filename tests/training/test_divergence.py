"""A run that diverges says so while it can still say why."""

import pytest
import torch
from torch import nn

from drfpn import build_detector
from drfpn.training.divergence import DivergenceMonitor
from drfpn.training.loss_meter import LossMeter
from drfpn.utils.errors import UserError
from tests.detectors.scenes import SMALL, scene


def monitor(tiny_config, model: nn.Module | None = None, convention: str = "paper") -> DivergenceMonitor:
    return DivergenceMonitor(model or nn.Module(), tiny_config(f"neck_options.convention={convention}"))


def drfpn(convention: str, **options: object) -> nn.Module:
    options = {"convention": convention, **options}
    return build_detector("faster_rcnn_lite0_drfpn", 3, neck_options=options, **SMALL["faster_rcnn"]).train()


def step(seen: DivergenceMonitor, model: nn.Module, number: int = 0) -> None:
    with seen.observe(number):
        model(*scene((96, 96)))
    seen.update(number, [1.0])


def test_a_loss_a_hundred_times_its_median_is_warned_of_once_with_its_step(tiny_config, caplog) -> None:
    seen = monitor(tiny_config)
    seen.update(0, [1.0 + i % 3 for i in range(40)])
    assert caplog.messages == []
    seen.update(40, [150.0, 300.0])
    seen.update(42, [1e5])
    (message,) = caplog.messages
    assert message.count("the run is likely to diverge") == 1
    assert "At step 41 the loss is 300, where its median is 2" in message
    assert "`base_lr=0.01`" in message


def test_a_high_loss_of_the_first_steps_and_one_below_it_are_not_judged(tiny_config, caplog) -> None:
    monitor(tiny_config).update(0, [0.01, 5.0, 9.0, 0.02])
    monitor(tiny_config).update(0, [3.0] + [0.004] * 15 + [0.9])  # as where most images have no object
    monitor(tiny_config).update(0, [2.0] + [0.0] * 20 + [1.0, 0.0])
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("bottom_up.steps.1.refinement.gate.bias", "a gate of CRB between C3 and C4 has a magnitude of 7"),
        ("top_down.steps.0.weight.2.bias", "omega of SRB between C2 and C3 has a magnitude of 7"),
    ],
)
def test_a_part_that_leaves_its_bounds_is_named(part, expected, tiny_config, caplog) -> None:
    model = drfpn("paper")
    nn.init.zeros_(model.backbone.neck.bottom_up.steps[1].refinement.gate.weight)
    with torch.no_grad():
        model.backbone.neck.get_parameter(part).fill_(7)
    step(monitor(tiny_config, model), model)
    (message,) = caplog.messages
    assert expected in message
    assert "`neck_options.convention=bounded`" in message


def test_gates_in_the_top_down_path_are_seen_too(tiny_config, caplog) -> None:
    model = drfpn("paper", top_down="crb_srb", bottom_up=None)
    with torch.no_grad():
        model.backbone.neck.top_down.steps[0].refinement.gate.bias.fill_(7)
    step(monitor(tiny_config, model), model)
    assert "a gate of CRB between C2 and C3" in caplog.text


@pytest.mark.parametrize("options", [{}, {"bottom_up": "srb", "top_down": "crb"}])
def test_the_bounded_convention_has_nothing_to_say_whatever_its_weights(options, tiny_config, caplog) -> None:
    model = drfpn("bounded", **options)
    for parameter in model.backbone.neck.parameters():
        nn.init.normal_(parameter)
    seen = monitor(tiny_config, model, "bounded")
    with seen.observe(0):
        model.backbone(torch.rand(1, 3, 96, 96))
    assert len(seen._observations) == 6
    seen.update(0, [1.0])
    assert caplog.messages == []


@pytest.mark.parametrize("convention", ["bounded", "paper", "release"])
def test_looking_leaves_losses_and_statistics_as_they_are(convention, tiny_config) -> None:
    """BatchNorm of the release's gates must not see a batch twice."""
    model = drfpn(convention)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    for number in (0, 1):  # looked at, and not
        model.load_state_dict(state)
        torch.manual_seed(0)
        with monitor(tiny_config, model).observe(number):
            losses = model(*scene((96, 96), (96, 96)))
        seen.append(losses | {name: value.clone() for name, value in model.state_dict().items()})
    for name, value in seen[0].items():
        assert torch.equal(value, seen[1][name]), name


def test_a_loss_that_is_not_finite_comes_with_the_same_advice(tiny_config) -> None:
    meter = LossMeter({}, monitor(tiny_config, drfpn("paper")).advice())
    meter.add({"loss": torch.tensor(float("nan"))}, ["a.jpg"])
    with pytest.raises(UserError, match=r"not finite at step 7 .*`neck_options.convention=bounded`"):
        meter.read(7)


def test_other_pyramids_are_watched_by_their_loss_alone(tiny_config, caplog) -> None:
    model = build_detector("faster_rcnn_lite0_fpn", 3, **SMALL["faster_rcnn"]).train()
    seen = DivergenceMonitor(model, tiny_config(model="faster_rcnn_lite0_fpn"))
    step(seen, model)
    seen.update(1, [1.0] * 20 + [1e4])
    assert "Lower the learning rate (`base_lr=0.01`), lengthen the warm-up" in caplog.text
