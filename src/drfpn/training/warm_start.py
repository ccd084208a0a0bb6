"""Beginning with the weights of another run: a trained detector goes on, with the same pyramid or another one."""

from typing import Any

import torch

from drfpn.detectors.upgrade_neck import upgrade
from drfpn.training.checkpoint import Card, build, load_detector
from drfpn.training.config import MODEL_SETTINGS, check_same, check_weights, is_run
from drfpn.utils.errors import UserError
from drfpn.utils.weights import name_some

NECK = "backbone.neck."
SIZES = ("min_size", "max_size", "detector_options")
"""Settings that weights fit whatever they are, but that decide what is detected."""


def begin_with(model: Any, card: Card, weights: str) -> str:
    """Load the weights of another run into a detector that was just built, and say in a sentence what they make it.

    Args:
        model: the detector of ``card``.
        card: of the run that begins.
        weights: run folder or file of the other run.

    Raises:
        UserError: weights that do not fit.
    """
    old, old_card = load_detector(weights)
    check_same(card.config.model, old_card.config.model, weights)
    old_neck: Any = old.get_submodule("backbone.neck")
    neck = model.backbone.neck.to(memory_format=torch.channels_last)
    if old_neck.in_channels != neck.in_channels:
        counts = [len(one.in_channels) for one in (old_neck, neck)]
        raise UserError(
            f"{type(old_neck).__name__} of {weights} takes {counts[0]} levels of the backbone and "
            f"{type(neck).__name__} takes {counts[1]}: begin with a run whose pyramid takes as many."
        )
    given = {name: value for name, value in old.state_dict().items() if not name.startswith(NECK)}
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(NECK)}
    sentences = []
    if card.classes != old_card.classes:
        of_classes = _tensors_of_classes(card)
        given = {name: value for name, value in given.items() if name not in of_classes}
        sentences.append("the layers of the classes begin anew, since the classes of the data are others")
        own = {name: value for name, value in own.items() if name not in of_classes}
    wrong = [name for name in {**own, **given} if name not in own or name not in given]
    wrong += [name for name in own if name not in wrong and own[name].shape != given[name].shape]
    if wrong:
        settings = [name for name in MODEL_SETTINGS if getattr(card.config, name) != getattr(old_card.config, name)]
        differ = [name for name in settings if name != "torchvision_levels"]
        why = f"{name_some(differ)} of the two runs differ" if differ else "the detectors differ"
        raise UserError(f"The weights in {weights} do not fit this detector in {name_some(wrong)}: {why}.")
    model.load_state_dict(given, strict=False)
    done = upgrade(old_neck, neck)
    same = done.exact and not sentences and all(getattr(card.config, n) == getattr(old_card.config, n) for n in SIZES)
    sentences = [f"weights of {weights}: {done}{', so it detects what it did' if same else ''}", *sentences]
    return "; ".join(sentences) + "."


def _tensors_of_classes(card: Card) -> set[str]:
    """Return the names of the tensors whose shape depends on the number of classes."""
    more = card.model_copy(update={"classes": (*card.classes, ""), "category_ids": (*card.category_ids, 0)})
    with torch.device("meta"):
        shapes, others = ({name: t.shape for name, t in build(c).state_dict().items()} for c in (card, more))
    return {name for name, shape in shapes.items() if others[name] != shape}


def built_to_begin(card: Card, *, resume: bool) -> tuple[Any, str | None]:
    """Build the detector of a run with the weights that it begins with, and what there is to say about them."""
    weights = card.config.weights
    if not resume:
        check_weights(weights)
    if resume or not is_run(weights):
        return build(card, pretrained=not resume), None
    model = build(card)
    return model, begin_with(model, card, str(weights))
