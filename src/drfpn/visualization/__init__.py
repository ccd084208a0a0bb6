"""Pictures of detections, feature maps, training curves and evaluations, and the report of a run."""

from drfpn.visualization.boxes import contact_sheet, draw, side_by_side
from drfpn.visualization.curves import save_curves
from drfpn.visualization.evaluation import save_evaluation
from drfpn.visualization.examples import draw_examples
from drfpn.visualization.panels import draw_panels
from drfpn.visualization.report.comparison import write_comparison
from drfpn.visualization.report.run import write_report

__all__ = [
    "contact_sheet",
    "draw",
    "draw_examples",
    "draw_panels",
    "save_curves",
    "save_evaluation",
    "side_by_side",
    "write_comparison",
    "write_report",
]
