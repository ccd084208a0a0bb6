"""Metadata of exported files: their keys and values."""

import json

import drfpn
from drfpn.detectors.base import DetectionModel
from drfpn.training import Card


def export_metadata(model: DetectionModel, card: Card) -> dict[str, str]:
    """Return the metadata that is stored in an exported file.

    Args:
        model: the detector.
        card: card of its weights.

    Returns:
        ``library``, ``version``, ``model`` (name of the detector), ``classes`` and ``category_ids`` (JSON lists, in the
        order of labels 1..K) and ``score_threshold`` (a decimal number).
    """
    return {
        "library": "drfpn",
        "version": drfpn.__version__,
        "model": card.config.model,
        "classes": json.dumps(card.classes),
        "category_ids": json.dumps(card.category_ids),
        "score_threshold": str(model.score_threshold),
    }
