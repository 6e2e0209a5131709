"""What a study found: every score of every sample, its tables and estimates, and its files."""

from heatproof.results.ranking import Ranking, Standing
from heatproof.results.record import Band, Gallery, Results
from heatproof.results.self_checks import SelfChecks

__all__ = ["Band", "Gallery", "Ranking", "Results", "SelfChecks", "Standing"]
