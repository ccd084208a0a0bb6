"""Feature pyramids: FPN, PAFPN and DRFPN, composed of top-down steps, bottom-up steps and a context module."""

from drfpn.pyramids.augfpn import AugFPN
from drfpn.pyramids.base import Pyramid
from drfpn.pyramids.context import PyramidPoolingModule
from drfpn.pyramids.crb import ChannelRefinementBlock
from drfpn.pyramids.deformable import DeformableFPN
from drfpn.pyramids.drfpn import DRFPN
from drfpn.pyramids.extra import ExtraConvs
from drfpn.pyramids.fpn import FPN, PAFPN
from drfpn.pyramids.libra import LibraFPN
from drfpn.pyramids.panet import PANet
from drfpn.pyramids.pconv import SEPC, PConvFPN
from drfpn.pyramids.release import load_release
from drfpn.pyramids.srb import SpatialRefinementBlock

PYRAMIDS: dict[str, type[Pyramid]] = {
    "fpn": FPN,
    "pafpn": PAFPN,
    "drfpn": DRFPN,
    "fpn_dcn": DeformableFPN,
    "libra": LibraFPN,
    "panet": PANet,
    "pconv": PConvFPN,
    "sepc": SEPC,
    "augfpn": AugFPN,
}

__all__ = [
    "DRFPN",
    "FPN",
    "PAFPN",
    "PYRAMIDS",
    "SEPC",
    "AugFPN",
    "ChannelRefinementBlock",
    "DeformableFPN",
    "ExtraConvs",
    "LibraFPN",
    "PANet",
    "PConvFPN",
    "Pyramid",
    "PyramidPoolingModule",
    "SpatialRefinementBlock",
    "load_release",
]
