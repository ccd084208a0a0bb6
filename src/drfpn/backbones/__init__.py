"""Backbones: any timm model with feature maps, under short names for those that are tested."""

from drfpn.backbones.timm import BACKBONES, TimmBackbone, pypi_weights_file

__all__ = ["BACKBONES", "TimmBackbone", "pypi_weights_file"]
