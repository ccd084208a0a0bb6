"""Layers that several necks share."""
