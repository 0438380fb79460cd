"""Charts of studies, searches and trainings, for print and for the web page.

Each `..._plot` function returns a matplotlib `Figure` whose layout is final; `save_figure` and `to_svg` write it, the same bytes for
the same values. They use matplotlib's objects without pyplot, so that nothing outside a figure is changed. Where many lines share a
chart, the best are in colour and have markers of their own; the others are grey, and all carry their name.
"""

from diswot.report.charts.cost import cost_plot
from diswot.report.charts.forest import forest_plot
from diswot.report.charts.heatmap import correlation_heatmap
from diswot.report.charts.lines import band_plot, regret_plot
from diswot.report.charts.network import network_plot
from diswot.report.charts.pictures import activation_maps_plot, matrices_plot
from diswot.report.charts.scatter import MAX_POINTS, rank_scatter, shown_points
from diswot.report.charts.search import choices_plot, progress_plot, tradeoff_plot
from diswot.report.charts.style import save_figure, to_svg
from diswot.report.charts.training import confusion_plot, curves_plot, gains_plot

__all__ = [
    "MAX_POINTS",
    "activation_maps_plot",
    "band_plot",
    "choices_plot",
    "confusion_plot",
    "correlation_heatmap",
    "cost_plot",
    "curves_plot",
    "forest_plot",
    "gains_plot",
    "matrices_plot",
    "network_plot",
    "progress_plot",
    "rank_scatter",
    "regret_plot",
    "save_figure",
    "shown_points",
    "to_svg",
    "tradeoff_plot",
]
