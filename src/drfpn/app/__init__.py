"""A web page to look at detectors with, on one's own machine."""

from pathlib import Path

SHIPPED = Path(__file__).with_name("shapes.safetensors")
"""Weights of a small detector for synthetic shapes; ``shapes.md`` is its card."""

__all__ = ["SHIPPED"]
