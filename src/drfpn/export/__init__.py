"""Detectors for other runtimes."""

from drfpn.export.program import LARGEST, WholeDetector, export_program

__all__ = ["LARGEST", "WholeDetector", "export_program"]
