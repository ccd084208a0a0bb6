"""Feature pyramids: FPN, PAFPN, DRFPN and others, composed of steps and paths."""

from collections.abc import Callable

from drfpn.pyramids.afpn import AFPN
from drfpn.pyramids.augfpn import AugFPN
from drfpn.pyramids.base import Neck, Pyramid
from drfpn.pyramids.bifpn import BiFPN
from drfpn.pyramids.carafe import CARAFE
from drfpn.pyramids.context import PyramidPoolingModule
from drfpn.pyramids.crb import ChannelRefinementBlock
from drfpn.pyramids.deformable import DeformableFPN
from drfpn.pyramids.drfpn import DRFPN
from drfpn.pyramids.dysample import DySample
from drfpn.pyramids.extra import ExtraConvs
from drfpn.pyramids.fapn import FaPN
from drfpn.pyramids.fpn import FPN, PAFPN, ScaledFPN
from drfpn.pyramids.fpt import FPT
from drfpn.pyramids.freqfusion import FreqFusion
from drfpn.pyramids.libra import LibraFPN
from drfpn.pyramids.nas_fpn import NASFPN
from drfpn.pyramids.panet import PANet
from drfpn.pyramids.pconv import SEPC, PConvFPN
from drfpn.pyramids.refined import RefinedFPN
from drfpn.pyramids.release import load_release
from drfpn.pyramids.simple_fpn import SimpleFPN
from drfpn.pyramids.srb import SpatialRefinementBlock

PYRAMIDS: dict[str, Callable[..., Neck]] = {
    "fpn": FPN,
    "pafpn": PAFPN,
    "drfpn": DRFPN,
    "fpn_dcn": DeformableFPN,
    "carafe": CARAFE,
    "dysample": DySample,
    "fapn": FaPN,
    "freqfusion": FreqFusion,
    "bifpn": BiFPN,
    "afpn": AFPN,
    "nas_fpn": NASFPN,
    "fpt": FPT,
    "simple_fpn": SimpleFPN,
    "libra": LibraFPN,
    "panet": PANet,
    "pconv": PConvFPN,
    "sepc": SEPC,
    "augfpn": AugFPN,
    "fpn_scale": ScaledFPN,
    "refined": RefinedFPN,
}

__all__ = [
    "AFPN",
    "CARAFE",
    "DRFPN",
    "FPN",
    "FPT",
    "NASFPN",
    "PAFPN",
    "PYRAMIDS",
    "SEPC",
    "AugFPN",
    "BiFPN",
    "ChannelRefinementBlock",
    "DeformableFPN",
    "DySample",
    "ExtraConvs",
    "FaPN",
    "FreqFusion",
    "LibraFPN",
    "Neck",
    "PANet",
    "PConvFPN",
    "Pyramid",
    "PyramidPoolingModule",
    "RefinedFPN",
    "ScaledFPN",
    "SimpleFPN",
    "SpatialRefinementBlock",
    "load_release",
]
