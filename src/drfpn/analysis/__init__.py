"""Looking at detectors: counts, pictures of detections, curves and the report of a run."""

from drfpn.analysis.comparison import write_comparison
from drfpn.analysis.counts import Counts, count
from drfpn.analysis.curves import save_curves
from drfpn.analysis.draw import contact_sheet, draw, side_by_side
from drfpn.analysis.evaluation import save_evaluation
from drfpn.analysis.examples import draw_examples
from drfpn.analysis.panels import draw_panels
from drfpn.analysis.report import write_report

__all__ = [
    "Counts",
    "contact_sheet",
    "count",
    "draw",
    "draw_examples",
    "draw_panels",
    "save_curves",
    "save_evaluation",
    "side_by_side",
    "write_comparison",
    "write_report",
]
