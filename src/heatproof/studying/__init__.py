"""A study: methods x metrics x samples, every score kept, then estimated, ranked and compared with the controls."""

from heatproof.studying.calibration import Agreement, Calibration
from heatproof.studying.checks import MethodCheck, MetricCheck
from heatproof.studying.cost import Cost, cost
from heatproof.studying.results import Band, Gallery, Results
from heatproof.studying.run import CONTROLS, METHODS, METRICS, Progress, study
from heatproof.studying.shuffled import label_randomisation, shuffled_model
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
    "label_randomisation",
    "shuffled_model",
    "study",
    "verdict",
]
