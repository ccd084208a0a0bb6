"""Figures of detections, feature maps, training curves and evaluations, and the HTML report of a run."""

from drfpn.visualization.boxes import contact_sheet, draw_boxes, side_by_side
from drfpn.visualization.curves import save_training_curves
from drfpn.visualization.evaluation import save_evaluation_figures
from drfpn.visualization.report.comparison import write_comparison
from drfpn.visualization.report.examples import draw_examples
from drfpn.visualization.report.neck import draw_neck_figures
from drfpn.visualization.report.run import write_report

__all__ = [
    "contact_sheet",
    "draw_boxes",
    "draw_examples",
    "draw_neck_figures",
    "save_evaluation_figures",
    "save_training_curves",
    "side_by_side",
    "write_comparison",
    "write_report",
]
