"""DRFPN (dual refinement feature pyramid network) and other necks for object detection.

Public packages:

- :mod:`drfpn.necks`: the necks; :mod:`drfpn.detectors`: detectors with these necks.
- :mod:`drfpn.data`: data sets and annotation formats.
- :mod:`drfpn.training`, :mod:`drfpn.evaluation`, :mod:`drfpn.inference`, :mod:`drfpn.export`,
  :mod:`drfpn.hub`.

The other packages are internal. Names are imported lazily, so that ``drfpn --help`` does not import PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drfpn.detectors import build_detector, list_models, replace_neck
    from drfpn.necks import DRFPN, FPN, PAFPN, load_release

__version__ = "0.1.0"

__all__ = ["DRFPN", "FPN", "PAFPN", "build_detector", "list_models", "load_release", "replace_neck"]

_MODULES = {
    "DRFPN": "drfpn.necks",
    "FPN": "drfpn.necks",
    "PAFPN": "drfpn.necks",
    "load_release": "drfpn.necks",
    "build_detector": "drfpn.detectors",
    "list_models": "drfpn.detectors",
    "replace_neck": "drfpn.detectors",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'drfpn' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
