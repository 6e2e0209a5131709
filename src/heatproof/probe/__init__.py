"""The model under question; the only package that hooks or traces a model."""

from heatproof.probe.attention import Attention, Heads
from heatproof.probe.goals import Contrast, Goal, Score, Target
from heatproof.probe.kinds import Kind, Task, parsed
from heatproof.probe.multipliers import multiplied
from heatproof.probe.outputs import Outputs, predicted
from heatproof.probe.probe import Probe, as_probe
from heatproof.probe.rectifiers import rectified
from heatproof.probe.runner import Recorder, Runner
from heatproof.probe.shot import Shot, Wants
from heatproof.probe.state import HeatproofWarning
from heatproof.probe.summary import Description
from heatproof.probe.survey import SEVERAL
from heatproof.probe.tasks import probe_for
from heatproof.probe.weights import duplicate

__all__ = [
    "SEVERAL",
    "Attention",
    "Contrast",
    "Description",
    "Goal",
    "Heads",
    "HeatproofWarning",
    "Kind",
    "Outputs",
    "Probe",
    "Recorder",
    "Runner",
    "Score",
    "Shot",
    "Target",
    "Task",
    "Wants",
    "as_probe",
    "duplicate",
    "multiplied",
    "parsed",
    "predicted",
    "probe_for",
    "rectified",
]
