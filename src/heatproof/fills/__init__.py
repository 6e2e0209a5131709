"""What stands in for removed positions, and the scores of inputs with positions removed."""

from heatproof.fills.canvas import Canvas, even_counts, removal_scores, removals
from heatproof.fills.catalogue import FillEntry, fill, fills

__all__ = ["Canvas", "FillEntry", "even_counts", "fill", "fills", "removal_scores", "removals"]
