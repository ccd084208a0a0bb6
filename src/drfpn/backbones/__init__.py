"""Backbones: timm models with feature maps C2 to C5, ResNets with LIP, plain ViTs."""

from drfpn.backbones.plain_vit import PlainBackbone
from drfpn.backbones.timm import BACKBONES, PLAIN_BACKBONES, TimmBackbone, pypi_weights_file

__all__ = ["BACKBONES", "PLAIN_BACKBONES", "PlainBackbone", "TimmBackbone", "pypi_weights_file"]
