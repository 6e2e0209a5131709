"""What a study found: every score of every sample, its tables and estimates, and its files."""

from heatproof.results.evidence import Evidence
from heatproof.results.ranking import Ranking, Standing
from heatproof.results.record import Band, Gallery, Results

__all__ = ["Band", "Evidence", "Gallery", "Ranking", "Results", "Standing"]
