"""Arguments and settings of messages are written as what to type."""

import logging

import pytest

from drfpn.cli.app import app
from drfpn.cli.hints import parameters_of, render
from drfpn.utils.errors import UsageError, UserError


@pytest.mark.parametrize(
    ("command", "message", "rendered"),
    [
        ("train", "Choose another `out`.", "Choose another --out."),
        ("train", "continue it with `resume=True`", "continue it with --resume"),
        ("train", "`on_bad='skip'` leaves them out", "--on-bad skip leaves them out"),
        ("train", '`on_bad="skip"`', "--on-bad skip"),
        ("train", "`max_train_images=N`", "--max-train-images N"),
        ("train", "`out=my [run] #1`", "--out 'my [run] #1'"),
        ("train", "`weights_backbone=my file.pth`", "-o 'weights_backbone=my file.pth'"),
        ("train", "`batch_size=8`", "-o batch_size=8"),
        ("train", "`detector_options.anchor_scale=4`", "-o detector_options.anchor_scale=4"),
        ("train", "`grad_accum_steps` is 3", "-o grad_accum_steps is 3"),
        ("train", "`key=value`", "-o key=value"),
        ("train", "`model` and `data`", "MODEL and --data"),
        ("ablate", "`on_bad='skip'`", "-o on_bad=skip"),
        ("ablate", "`convention='paper'`", "--convention paper"),
        ("data convert", "`data`, `to`, `masks=False`, `masks=True`", "DATA, --to, --no-masks, --masks"),
        ("data convert", "`max_images=5`", "--max-images 5"),
        ("export", "`format='onnx'`", "--format onnx"),
        ("view gates", "`device='cpu'`", "--device cpu"),
        ("eval", "`batch_size=N`", "-o batch_size=N"),
        ("eval", "`align_corners=False` and `forward`", "align_corners=False and forward"),
        ("train", "`weights_backbone=None`", "-o weights_backbone=null"),
        ("train", "`convention` must be", "convention must be"),
        ("train", "`pip install torch`, ``name=1``", "`pip install torch`, ``name=1``"),
        ("", "`out`", "out"),
    ],
)
def test_arguments_and_settings_are_written_as_options(command, message, rendered) -> None:
    assert render(message, parameters_of(app, [*command.split(), "x", "--out", "y"])) == rendered


def test_the_parameters_are_those_of_the_command_that_is_called() -> None:
    assert {"run", "image", "out"} <= parameters_of(app, ["view", "offsets", "data", "photo.jpg"]).keys()
    assert "model" in parameters_of(app, ["train", "data"])


@pytest.mark.parametrize(("error", "code"), [(UserError, 1), (UsageError, 2)])
def test_an_error_is_printed_with_what_to_type(drfpn, monkeypatch, error, code) -> None:
    def fail(*args, **options) -> None:
        logging.getLogger("drfpn.data").warning("left out by `on_bad='skip'`")
        raise error("Take `batch_size=1`, or another `out`.")

    monkeypatch.setattr("drfpn.training.resolve", fail)
    result = drfpn("train", "faster_rcnn_lite0_fpn", "--data", "shapes")
    assert result.code == code
    assert result.err == "left out by --on-bad skip\ndrfpn: Take -o batch_size=1, or another --out.\n"
