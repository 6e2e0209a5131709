"""Which method to trust on this model and data, computed from the results of a study."""

from heatproof.verdict.agreement import Agreement, Calibration
from heatproof.verdict.checks import MethodCheck, MetricCheck
from heatproof.verdict.decision import Verdict, verdict

__all__ = ["Agreement", "Calibration", "MethodCheck", "MetricCheck", "Verdict", "verdict"]
