import json
import pickle
from types import SimpleNamespace

import pytest
import torch

from drfpn.export import export_metadata
from drfpn.training.checkpoint import Card, build, load_card, load_detector, load_state, save_detector, save_state
from drfpn.utils.errors import UserError
from drfpn.utils.io import write_atomically
from drfpn.utils.runs import find_weights
from tests.names import NAMES


@pytest.fixture
def card(tiny_config) -> Card:
    return Card(config=tiny_config(), classes=("cat", "dog"), category_ids=(17, 18))


def test_a_detector_survives_its_file(tmp_path, card) -> None:
    torch.manual_seed(0)
    model = build(card).eval()
    save_detector(tmp_path / "best.safetensors", model, card)
    loaded, read = load_detector(tmp_path)
    assert read == card
    image = [torch.rand(3, 70, 90)]
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image)[0]["scores"], model(image)[0]["scores"])
        torch.testing.assert_close(loaded(image)[0]["boxes"], model(image)[0]["boxes"], rtol=1e-4, atol=1e-3)


def test_names_of_classes_survive_the_file_and_are_ascii_in_exported_models(tmp_path, card) -> None:
    card = card.model_copy(update={"classes": tuple(NAMES.values()), "category_ids": tuple(range(len(NAMES)))})
    save_detector(tmp_path / "best.safetensors", torch.nn.Linear(1, 1), card)
    assert load_card(tmp_path).classes == card.classes
    text = export_metadata(SimpleNamespace(score_threshold=0.05), card)["classes"]
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == list(card.classes)


def test_a_detector_that_began_as_torchvisions_is_rebuilt_without_its_weights(tmp_path, tiny_config) -> None:
    """Nothing is fetched, and P6 is made from the pyramid as where the run began."""
    config = tiny_config("weights=not-there.pth", model="retinanet_lite0_fpn")
    card = Card(config=config, classes=("cat", "dog"), category_ids=(17, 18))
    model = build(card)
    assert model.backbone.neck.extra_blocks.source == "output"
    save_detector(tmp_path / "best.safetensors", model, card)
    loaded, _ = load_detector(tmp_path)
    assert loaded.backbone.neck.extra_blocks.p6.in_channels == config.width
    with pytest.raises(UserError, match="torchvision has no detection weights"):
        build(card, pretrained=True)


def test_the_best_weights_come_before_the_last(tmp_path) -> None:
    (tmp_path / "last.safetensors").touch()
    assert find_weights(tmp_path).name == "last.safetensors"
    (tmp_path / "best.safetensors").touch()
    assert find_weights(tmp_path).name == "best.safetensors"


def test_a_missing_run_and_a_folder_that_is_none_are_named(tmp_path) -> None:
    with pytest.raises(UserError, match="no run or weights file"):
        load_detector(tmp_path / "nothing")
    with pytest.raises(UserError, match="is not a run"):
        load_detector(tmp_path)


class _Bomb:
    def __init__(self, marker) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def test_a_hostile_pickle_is_refused_and_never_run(tmp_path) -> None:
    marker = tmp_path / "it ran"
    for name in ("weights.safetensors", "state.pt"):
        file = tmp_path / name
        file.write_bytes(pickle.dumps(_Bomb(marker)))
        with pytest.raises(UserError):
            load_detector(file) if name.endswith("safetensors") else load_state(file)
    torch.save({"model": _Bomb(marker)}, tmp_path / "state.pt")
    with pytest.raises(UserError, match="read safely"):
        load_state(tmp_path / "state.pt")
    assert not marker.exists()


def test_weights_without_a_card_are_refused(tmp_path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no card"):
        load_detector(tmp_path / "a.safetensors")


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path, card) -> None:
    model = build(card)
    del model.roi_heads.box_predictor.cls_score.bias
    save_detector(tmp_path / "best.safetensors", model, card)
    with pytest.raises(UserError, match="lack 'roi_heads"):
        load_detector(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    file = tmp_path / "metrics.json"
    file.write_text("old")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomically(file, b"new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_state_holds_tensors_and_numbers(tmp_path) -> None:
    state = {"model": {"w": torch.ones(2)}, "epoch": 3, "best": 0.5}
    save_state(tmp_path / "state.pt", state)
    read = load_state(tmp_path / "state.pt")
    assert read["epoch"] == 3
    torch.testing.assert_close(read["model"]["w"], torch.ones(2))
