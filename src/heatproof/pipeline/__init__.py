"""What a run does, stage by stage; the command line and the web page call these functions and add nothing.

defaults    what is done where the plan leaves it open
plan        what to do, checked; the folder of a run
stages      train or load, evaluate, explain, judge, report; `run` for all of them
mapfile     maps on disk, written chunk by chunk
worked      three samples looked at closely
finished    report again, compare
"""

from __future__ import annotations

from heatproof.pipeline.archive import Compared, compare, report
from heatproof.pipeline.defaults import recipe_for
from heatproof.pipeline.mapfile import read_maps
from heatproof.pipeline.plan import RUN, Plan, checked, claim, plan_of, read_plan, registry
from heatproof.pipeline.stages import (
    MAPS,
    MODEL,
    PERFORMANCE,
    REPORT,
    STUDY,
    Outcome,
    Step,
    Watch,
    assess,
    chosen,
    classifier,
    judge,
    maps,
    probe,
    run,
    splits,
    studied,
    write_report,
)

__all__ = [
    "MAPS",
    "MODEL",
    "PERFORMANCE",
    "REPORT",
    "RUN",
    "STUDY",
    "Compared",
    "Outcome",
    "Plan",
    "Step",
    "Watch",
    "assess",
    "checked",
    "chosen",
    "claim",
    "classifier",
    "compare",
    "judge",
    "maps",
    "plan_of",
    "probe",
    "read_maps",
    "read_plan",
    "recipe_for",
    "registry",
    "report",
    "run",
    "splits",
    "studied",
    "write_report",
]
