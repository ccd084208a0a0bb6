"""The COCO detection weights that torchvision publishes: their URLs and class ids, download and reading."""

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

from drfpn.utils.errors import UsageError, UserError
from drfpn.utils.weights import read_weights

BACKBONE = "resnet50"
"""The only supported backbone whose detectors torchvision publishes (timm's name)."""


class PublishedWeights(NamedTuple):
    """Weights that torchvision publishes for a detector."""

    weights: Any
    """Member of a torchvision ``WeightsEnum``."""
    zero_eps: bool
    """Whether torchvision sets the eps of BatchNorm to 0 for them (``overwrite_eps``)."""


PUBLISHED = {
    "faster_rcnn": PublishedWeights(detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1, True),
    "mask_rcnn": PublishedWeights(detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1, True),
    "retinanet": PublishedWeights(detection.RetinaNet_ResNet50_FPN_Weights.COCO_V1, True),
    "fcos": PublishedWeights(detection.FCOS_ResNet50_FPN_Weights.COCO_V1, False),
}
"""Published weights by name of the detector."""

COCO = [
    label
    for label, name in enumerate(PUBLISHED["faster_rcnn"].weights.meta["categories"])
    if name not in ("__background__", "N/A")
]
"""COCO's 80 category ids, 1 to 90 with gaps, which are the labels of torchvision's published weights."""


class Checkpoint(NamedTuple):
    """State dict of a detector with torchvision's names."""

    tensors: dict[str, Tensor]
    zero_eps: bool
    """Whether they are meant for a BatchNorm with eps = 0."""
    source: str
    """File or URL, for messages."""


def check_published(detector: str, backbone: str, weights_backbone: object) -> None:
    """Check that torchvision publishes weights for a detector.

    Args:
        detector: key of ``DETECTORS``.
        backbone: timm's name.
        weights_backbone: as of :func:`drfpn.build_detector`, must not be given as well.

    Raises:
        UsageError: there are none, or other weights are given for the backbone.
    """
    if detector not in PUBLISHED or backbone.split(".")[0] != BACKBONE:
        known = ", ".join(f"{name}_r50" for name in PUBLISHED)
        raise UsageError(
            f"torchvision has no detection weights for '{detector}' on '{backbone}', only for {known}: "
            "leave out `weights`, or give `weights_backbone` alone."
        )
    if weights_backbone not in (None, False):
        raise UsageError(f"`weights` include the backbone's: leave out `weights_backbone={weights_backbone!r}`.")


def read_checkpoint(detector: str, weights: str | Path) -> Checkpoint:
    """Download the published weights of a detector, or read a file with weights without running code from it.

    A file is recognized as the published one by its SHA-256, whose first digits are part of the published name.

    Args:
        detector: key of ``PUBLISHED``.
        weights: ``"torchvision"`` or a file.

    Raises:
        UserError: the download fails, or the file cannot be read.
    """
    published = PUBLISHED[detector]
    url: str = published.weights.url
    if weights == "torchvision":
        return Checkpoint(_download(detector, url), published.zero_eps, url)
    file = Path(weights)
    tensors = read_weights(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    is_published = digest.startswith(Path(url).stem.rsplit("-", 1)[-1])
    return Checkpoint(tensors, published.zero_eps and is_published, str(file))


def _download(detector: str, url: str) -> dict[str, Tensor]:
    try:
        with redirect_stdout(sys.stderr):  # torch prints the URL; stdout is for results
            return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError, UnpicklingError) as error:
        raise UserError(
            f"The weights of '{detector}' could not be downloaded from {url} ({type(error).__name__}): "
            "download that file on a computer with network access and give its path as `weights`."
        ) from error
