import pytest

from drfpn.hub.paths import data_name, last_name, publishable_card, strip_paths
from drfpn.training.checkpoint import load_card


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("shapes", "shapes"),
        ("/home/user/farm", "farm"),
        ("/home/user/farm/", "farm"),
        ("../../user/farm", "farm"),
        (r"C:\Users\user\farm", "farm"),
        ("~/farm", "farm"),
        ("/home/user/farm/data.yaml", "farm"),
        ("/home/user/farm.yaml", "farm.yaml"),
        ("..", "data"),
        ("/", "data"),
    ],
)
def test_a_data_set_is_called_by_the_last_name_of_its_path(path, name) -> None:
    assert data_name(path) == name


def test_only_absolute_paths_are_stripped() -> None:
    value = {"a": ["/home/user/x.pth", "b/c", 3, None], "d": {"e": r"\\server\share\y"}, "/m/01": "/m/01"}
    assert strip_paths(value, keep=("/m/01",)) == {"a": ["x.pth", "b/c", 3, None], "d": {"e": "y"}, "/m/01": "/m/01"}


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("torchvision", "torchvision"),
        ("hf:user/name@v1", "hf:user/name@v1"),
        ("/home/user/runs/fpn", "fpn"),
        ("/home/user/runs/fpn/best.safetensors", "fpn"),
        ("../theirs.pth", "theirs.pth"),
    ],
)
def test_initial_weights_keep_their_names_only(run, weights, name) -> None:
    card = load_card(run)
    changes = {"weights": weights, "weights_backbone": "/home/user/b.pth", "detector_options": {"x": "/home/user/y"}}
    published = publishable_card(card.model_copy(update={"config": card.config.model_copy(update=changes)})).config
    assert (published.weights, published.weights_backbone) == (name, "b.pth")
    assert published.detector_options == {"x": "y"}
    assert last_name("pypi") == "pypi"
