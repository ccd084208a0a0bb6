"""Necks: FPN, PAFPN, DRFPN and others, by name in ``NECKS``; ``Neck`` and ``StepNeck`` are their base classes."""

from drfpn.necks.afpn import AFPN
from drfpn.necks.augfpn import AugFPN
from drfpn.necks.base import Level, Neck, NeckClass, StepNeck
from drfpn.necks.bfp import BFP
from drfpn.necks.bifpn import BiFPN
from drfpn.necks.carafe import CARAFE
from drfpn.necks.drfpn.convert_release import load_release
from drfpn.necks.drfpn.crb import ChannelRefinementBlock
from drfpn.necks.drfpn.neck import DRFPN
from drfpn.necks.drfpn.ppm import PyramidPoolingModule
from drfpn.necks.drfpn.srb import SpatialRefinementBlock
from drfpn.necks.dysample import DySample
from drfpn.necks.fapn import FaPN
from drfpn.necks.fpn import FPN
from drfpn.necks.fpn_dcn import DeformableFPN
from drfpn.necks.fpt import FPT
from drfpn.necks.freqfusion import FreqFusion
from drfpn.necks.layers.extra_levels import ExtraConvs
from drfpn.necks.nas_fpn import NASFPN
from drfpn.necks.pafpn import PAFPN
from drfpn.necks.panet import PANet
from drfpn.necks.pconv import SEPC, PConvFPN
from drfpn.necks.refined_fpn import RefinedFPN
from drfpn.necks.scaled_fpn import ScaledFPN
from drfpn.necks.simple_fpn import SimpleFPN

NECKS: dict[str, NeckClass] = {
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
    "libra": BFP,
    "panet": PANet,
    "pconv": PConvFPN,
    "sepc": SEPC,
    "augfpn": AugFPN,
    "fpn_scale": ScaledFPN,
    "refined": RefinedFPN,
}
"""All necks by the names that detectors use, as in ``faster_rcnn_r50_drfpn``."""

__all__ = [
    "AFPN",
    "BFP",
    "CARAFE",
    "DRFPN",
    "FPN",
    "FPT",
    "NASFPN",
    "NECKS",
    "PAFPN",
    "SEPC",
    "AugFPN",
    "BiFPN",
    "ChannelRefinementBlock",
    "DeformableFPN",
    "DySample",
    "ExtraConvs",
    "FaPN",
    "FreqFusion",
    "Level",
    "Neck",
    "NeckClass",
    "PANet",
    "PConvFPN",
    "PyramidPoolingModule",
    "RefinedFPN",
    "ScaledFPN",
    "SimpleFPN",
    "SpatialRefinementBlock",
    "StepNeck",
    "load_release",
]
