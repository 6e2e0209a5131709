"""A study: methods x metrics x samples, every score kept, then estimated, ranked and compared with the controls."""

from heatproof.studying.calibration import Agreement, Calibration
from heatproof.studying.checks import MethodCheck, MetricCheck
from heatproof.studying.cost import Cost, cost
from heatproof.studying.journal import folders
from heatproof.studying.plan import CONTROLS, METHODS, METRICS, default_metrics, keep_of, kept
from heatproof.studying.results import Band, Gallery, Results
from heatproof.studying.run import Progress, study
from heatproof.studying.shuffled import shuffled_model
from heatproof.studying.standing import Ranking, Standing
from heatproof.studying.trials import Trials
from heatproof.studying.verdict import Verdict, verdict

__all__ = [
    "CONTROLS",
    "METHODS",
    "METRICS",
    "Agreement",
    "Band",
    "Calibration",
    "Cost",
    "Gallery",
    "MethodCheck",
    "MetricCheck",
    "Progress",
    "Ranking",
    "Results",
    "Standing",
    "Trials",
    "Verdict",
    "cost",
    "default_metrics",
    "folders",
    "keep_of",
    "kept",
    "shuffled_model",
    "study",
    "verdict",
]
