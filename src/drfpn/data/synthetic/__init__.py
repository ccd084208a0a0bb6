"""Synthetic images of shapes, drawn on the fly."""
