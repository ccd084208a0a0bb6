"""The COCO weights that torchvision publishes: where they are, how they are read, what classes they know."""

import hashlib
import sys
from contextlib import redirect_stdout
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.models import detection

from drfpn.utils.errors import UserError
from drfpn.utils.weights import read_weights

BACKBONE = "resnet50"
"""The only backbone of ours whose detectors torchvision publishes (timm's name)."""


class Published(NamedTuple):
    """What torchvision publishes for a detector."""

    weights: Any
    """Member of a torchvision ``WeightsEnum``."""
    zero_eps: bool
    """Whether torchvision runs them with a BatchNorm whose eps is 0 (``overwrite_eps``)."""


PUBLISHED = {
    "faster_rcnn": Published(detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1, True),
    "mask_rcnn": Published(detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1, True),
    "retinanet": Published(detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1, True),
    "fcos": Published(detection.FCOS_ResNet50_FPN_Weights.COCO_V1, False),
}
"""Our detectors whose parts are those of a torchvision model."""

COCO = [
    label
    for label, name in enumerate(PUBLISHED["faster_rcnn"].weights.meta["categories"])
    if name not in ("__background__", "N/A")
]
"""COCO's 80 category ids, which are the labels of torchvision's published weights; 10 ids up to 90 are unused."""


class Given(NamedTuple):
    """A state dict under torchvision's names."""

    tensors: dict[str, Tensor]
    zero_eps: bool
    """Whether they are to be used with a BatchNorm whose eps is 0."""
    source: str
    """File or address, for messages."""


def check_published(detector: str, backbone: str, weights_backbone: object) -> None:
    """Check that torchvision has a detector of this kind; ``backbone`` is timm's name.

    Raises:
        UserError: there is none, with those that there are; or the backbone is to have other weights.
    """
    if detector not in PUBLISHED or backbone.split(".")[0] != BACKBONE:
        known = ", ".join(f"{name}_r50" for name in PUBLISHED)
        raise UserError(
            f"torchvision has no detection weights for '{detector}' on '{backbone}', only for {known}: "
            "leave out weights, or give weights_backbone alone.",
            exit_code=2,
        )
    if weights_backbone not in (None, False):
        raise UserError(
            f"weights hold the backbone's too: leave out weights_backbone={weights_backbone!r}.", exit_code=2
        )


def read_given(detector: str, weights: str | Path) -> Given:
    """Fetch the published weights (``"torchvision"``) or read a file, safely.

    A file is known as the published one by its SHA-256, which begins as the published name says.

    Raises:
        UserError: they cannot be fetched, or the file is not one of weights.
    """
    published = PUBLISHED[detector]
    url: str = published.weights.url
    if weights == "torchvision":
        return Given(_fetch(detector, url), published.zero_eps, url)
    file = Path(weights)
    tensors = read_weights(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    same = digest.startswith(Path(url).stem.rsplit("-", 1)[-1])
    return Given(tensors, published.zero_eps and same, str(file))


def _fetch(detector: str, url: str) -> dict[str, Tensor]:
    try:
        with redirect_stdout(sys.stderr):  # where torch says what it fetches; stdout may be wanted for JSON
            return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError, UnpicklingError) as error:
        raise UserError(
            f"torchvision's weights of '{detector}' could not be fetched from {url} ({type(error).__name__}): "
            "fetch that file where there is a network and give its path as weights."
        ) from error
