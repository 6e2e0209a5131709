"""Which method to use on this model and data, computed from the results of a study.

checks                  what the model must pass
questions               the scores that answer the two questions: where, and how much
eligibility             each method against its own controls
decision                which methods are named, and why none is
evidence                how concentrated and how reliable the evidence itself is
agreement               of the metrics with the planted truth
basis, findings         everything read off a study once; what a reader should know, as records
wording                 decisions and findings in words
record, judgement       the verdict; what reports and terminals are made from
files                   verdict.json
"""

from heatproof.verdict.agreement import Agreement, Calibration
from heatproof.verdict.decision import Comparison, Decision
from heatproof.verdict.eligibility import ControlTest, MethodCheck
from heatproof.verdict.evidence import ClassEvidence
from heatproof.verdict.judgement import Judgement, verdict
from heatproof.verdict.record import Verdict

__all__ = [
    "Agreement",
    "Calibration",
    "ClassEvidence",
    "Comparison",
    "ControlTest",
    "Decision",
    "Judgement",
    "MethodCheck",
    "Verdict",
    "verdict",
]
