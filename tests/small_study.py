"""Studies as tests ask for them: specs as text, options by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from heatproof.facade import Results
from heatproof.probe import Probe
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.studies.options import StudyOptions
from heatproof.studies.run import run

RUN = ("out", "resume", "workers", "progress")


def options(
    methods: Sequence[str] = (), metrics: Sequence[str] = (), fills: Sequence[str] = (), **more: Any
) -> StudyOptions:
    """The options of a study."""
    specs = {"methods": methods, "metrics": metrics, "fills": fills}
    return StudyOptions(**{name: tuple(map(Spec.parse, texts)) for name, texts in specs.items()}, **more)


def studies(
    model: nn.Module | Probe,
    samples: Samples | Splits,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
    fills: Sequence[str] = (),
    **more: Any,
) -> tuple[Results, ...]:
    """The results with each of the fills."""
    settings = {name: more.pop(name) for name in RUN if name in more}
    results = run(model, samples, options(methods, metrics, fills, **more), **settings)
    return tuple(Results.of([each]) for each in results)


def study(
    model: nn.Module | Probe,
    samples: Samples | Splits,
    methods: Sequence[str] = (),
    metrics: Sequence[str] = (),
    fill: str = "mean",
    **more: Any,
) -> Results:
    """The results with one fill."""
    return studies(model, samples, methods, metrics, [fill], **more)[0]


def stopped(out: Path) -> list[str]:
    """The names of the chunks that a stopped study keeps in its folder."""
    return sorted(path.stem for path in (out / "chunks").iterdir())
