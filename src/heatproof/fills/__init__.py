"""What stands in for removed positions, and the scores of inputs with positions removed."""

from heatproof.fills.canvas import Canvas, even_counts, removal_scores, removals
from heatproof.fills.catalogue import fills

__all__ = ["Canvas", "even_counts", "fills", "removal_scores", "removals"]
