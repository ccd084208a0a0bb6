"""Initialization of a run with the weights of another run, whose neck may be another one."""

from typing import Any

import torch

from drfpn.detectors.base import DetectionModel
from drfpn.detectors.upgrade_neck import upgrade_neck
from drfpn.training.checkpoint import Card, build, load_detector
from drfpn.training.source_run import MODEL_SETTINGS, check_same_detector, check_weights, is_run
from drfpn.utils.errors import UserError
from drfpn.utils.weights import abbreviate_names

NECK = "backbone.neck."
INFERENCE_SETTINGS = ("min_size", "max_size", "detector_options")
"""Settings that affect the detections, but not the shapes of the weights."""


def build_initial_detector(card: Card, *, resume: bool) -> tuple[Any, str | None]:
    """Build the detector of a run with its initial weights.

    Args:
        card: card of the run.
        resume: leave the weights random, since a saved state is loaded next.

    Returns:
        The detector, and a message about weights that come from another run.

    Raises:
        UserError: the initial weights cannot be read or do not fit.
    """
    weights = card.config.weights
    if not resume:
        check_weights(weights)
    if resume or not is_run(weights):
        return build(card, pretrained=not resume), None
    model = build(card)
    return model, load_source_weights(model, card, str(weights))


def load_source_weights(model: DetectionModel, card: Card, weights: str) -> str:
    """Load the weights of another run into a detector.

    The neck gets the weights that both necks share, see :func:`drfpn.detectors.upgrade_neck.upgrade_neck`; layers
    whose shapes depend on the classes stay as they are if the classes differ.

    Args:
        model: a detector as built from ``card``.
        card: card of the new run.
        weights: folder, .safetensors file or name on the Hub of the other run.

    Returns:
        A sentence about what was loaded and whether the detections are the same.

    Raises:
        UserError: the weights do not fit.
    """
    source, source_card = load_detector(weights)
    check_same_detector(card.config.model, source_card.config.model, weights)
    source_neck: Any = source.get_submodule("backbone.neck")
    neck: Any = model.backbone.neck.to(memory_format=torch.channels_last)
    if source_neck.in_channels != neck.in_channels:
        counts = [len(either.in_channels) for either in (source_neck, neck)]
        raise UserError(
            f"{type(source_neck).__name__} of {weights} takes {counts[0]} levels of the backbone and "
            f"{type(neck).__name__} takes {counts[1]}: start from a run whose neck takes as many."
        )
    same_classes = card.classes == source_card.classes
    excluded = set() if same_classes else _class_dependent_tensors(card)
    loaded, own = (
        {name: value for name, value in state.items() if not name.startswith(NECK) and name not in excluded}
        for state in (source.state_dict(), model.state_dict())
    )
    mismatched = [name for name in {**own, **loaded} if name not in own or name not in loaded]
    mismatched += [name for name in own if name not in mismatched and own[name].shape != loaded[name].shape]
    if mismatched:
        differing = [
            name
            for name in MODEL_SETTINGS
            if name != "torchvision_levels" and getattr(card.config, name) != getattr(source_card.config, name)
        ]
        reason = f"{abbreviate_names(differing)} of the two runs differ" if differing else "the detectors differ"
        raise UserError(
            f"The weights in {weights} do not fit this detector in {abbreviate_names(mismatched)}: {reason}."
        )
    model.load_state_dict(loaded, strict=False)
    report = upgrade_neck(source_neck, neck)
    same_settings = all(getattr(card.config, n) == getattr(source_card.config, n) for n in INFERENCE_SETTINGS)
    sentences = [f"weights of {weights}: {report}"]
    if report.exact and same_classes and same_settings:
        sentences[0] += ", so the detections are the same"
    if not same_classes:
        sentences.append("the layers that depend on the classes are newly initialized, since the classes differ")
    return "; ".join(sentences) + "."


def _class_dependent_tensors(card: Card) -> set[str]:
    """Return the names of the tensors whose shapes depend on the number of classes."""
    more = card.model_copy(update={"classes": (*card.classes, ""), "category_ids": (*card.category_ids, 0)})
    with torch.device("meta"):
        shapes, others = ({name: t.shape for name, t in build(c).state_dict().items()} for c in (card, more))
    return {name for name, shape in shapes.items() if others[name] != shape}
