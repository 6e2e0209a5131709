"""Which method to use on this model and data, computed from the results of a study.

checks, eligibility     what the model, the metrics and the methods must pass
leader, decision        which method leads, by how much, and what follows
agreement               with the planted truth; fill_dependence: whether the fill decides
basis, findings         everything read off a study once; what a reader should know, as records
wording                 decisions and findings in words
record, judgement       the verdict; what reports and terminals are made from
files                   verdict.json
"""

from heatproof.verdict.agreement import Agreement, Calibration
from heatproof.verdict.checks import MetricCheck
from heatproof.verdict.decision import Decision
from heatproof.verdict.eligibility import MethodCheck
from heatproof.verdict.fill_dependence import FillDependence
from heatproof.verdict.judgement import Judgement, verdict
from heatproof.verdict.record import Verdict

__all__ = [
    "Agreement",
    "Calibration",
    "Decision",
    "FillDependence",
    "Judgement",
    "MethodCheck",
    "MetricCheck",
    "Verdict",
    "verdict",
]
