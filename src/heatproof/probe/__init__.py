"""The model under question; the only package that hooks or traces a model."""

from heatproof.probe.attention import Heads
from heatproof.probe.goals import Contrast, Goal, Target
from heatproof.probe.probe import Probe, as_probe
from heatproof.probe.runner import Recorder, Runner
from heatproof.probe.shot import Shot, Wants
from heatproof.probe.state import HeatproofWarning

__all__ = [
    "Contrast",
    "Goal",
    "Heads",
    "HeatproofWarning",
    "Probe",
    "Recorder",
    "Runner",
    "Shot",
    "Target",
    "Wants",
    "as_probe",
]
