"""The top of the page: the title, the verdict with what it is based on, and the findings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heatproof.performance.wording import headline
from heatproof.phrases import listed, plural
from heatproof.records import Severity
from heatproof.report.content import Content
from heatproof.report.sections import classifier
from heatproof.verdict.judgement import Judgement
from heatproof.verdict.wording import Statement


@dataclass(frozen=True)
class Banner:
    """What stands on top of the page: the verdict, what it is based on, and what fails."""

    headline: str
    severity: Severity
    basis: str = ""
    items: tuple[Statement, ...] = ()


def title(content: Content) -> str:
    """What the page is about."""
    results, performance = content.results, content.performance
    name = str(results.about.get("data", "")) if results is not None else performance.name if performance else ""
    model = "model" if performance is not None and performance.task == "regression" else "classifier"
    question = "Which heatmaps can be trusted?" if results is not None else f"How good is the {model}?"
    return f"{name}: {question[0].lower()}{question[1:]}" if name else question


def subtitle(content: Content) -> str:
    """How much was studied, of which model, and how accurate it is."""
    parts, results, performance = [], content.results, content.performance
    if results is not None:
        controls = f" and {plural(len(results.controls), 'reference map')}" if results.controls else ""
        pairs = results.about.get("pairs")
        rows = plural(len(results), "sample")
        if pairs:
            rows = f"{plural(pairs['pairs'], 'positive label')} of {plural(pairs['samples'], 'sample')}"
        parts.append(
            f"{plural(len(results.methods), 'method')}{controls}, {plural(len(results.metrics), 'metric')}, {rows}"
        )
    if content.card is not None:
        parts.append(f"model {content.card.architecture}")
    if performance is not None:
        parts.append(headline(performance.task, performance.intervals, len(performance)))
    return "; ".join(parts) + "." if parts else ""


def banner(content: Content) -> Banner | None:
    """The verdict of a study, with what fails; of a classifier alone its first conclusions; None without either."""
    judgement = content.judgement
    if judgement is None:
        words = [item.text for item in classifier.statements(content.performance)] if content.performance else []
        return Banner(words[0], "note", " ".join(words[1:])) if words else None
    verdict = judgement.verdict
    undecided = verdict.kind == "cannot tell yet" or not judgement.results.methods
    severity: Severity = "good" if verdict.trusted else "note" if undecided else "bad"
    items = tuple(item for item in judgement.statements if item.severity == "bad")
    return Banner(verdict.text, severity, _basis(judgement), items)


def findings(content: Content) -> tuple[Statement, ...]:
    """What a reader should know besides, the most serious first."""
    judgement = content.judgement
    return () if judgement is None else tuple(item for item in judgement.statements if item.severity != "bad")


def _basis(judgement: Judgement) -> str:
    """On how many samples and which metrics the verdict is based, and which difference matters."""
    results = judgement.results
    if not results.methods or not judgement.questions:
        return ""
    metrics = [f"{listed(names)} ({question})" for question, names in judgement.questions.items()]
    samples = plural(len(results), "sample")
    if results.groups is not None:
        samples += f" of {plural(len(np.unique(results.groups)), 'group')}"
    return (
        f"Based on {samples} and the metrics {listed(metrics)}; smallest difference that matters {judgement.delta:g}, "
        f"{judgement.level_text} intervals."
    )
