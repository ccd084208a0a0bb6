"""Web page that shows detections and the features, offsets and gates of necks, served on this machine."""

import os
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # must be set before Gradio is imported

SHIPPED_WEIGHTS = Path(__file__).with_name("shapes.safetensors")
"""Weights of a small detector of synthetic shapes; ``shapes.md`` describes it."""

__all__ = ["SHIPPED_WEIGHTS"]
