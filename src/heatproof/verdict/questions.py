"""The two questions of the verdict, and every sample's score of each method (and of its own controls) for them."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from heatproof.results.record import Results

Question = Literal["where", "how much"]
QUESTIONS: tuple[Question, ...] = get_args(Question)


def metrics_of(results: Results, question: Question) -> tuple[str, ...]:
    """The metrics of a study that answer a question."""
    return tuple(metric for metric in results.metrics if results.fact(metric, "question") == question)


def scores(results: Results, method: str, question: Question, control: str = "") -> Float[np.ndarray, " n"] | None:
    """Each sample's score of a method, or of one of its own controls, for a question; None where not computed.

    0 is chance and 1 is perfect; several metrics of one question are averaged.
    """
    columns = []
    for metric in metrics_of(results, question):
        values = (
            results.own_controls.get((control, method, metric)) if control else results.scores.get((method, metric))
        )
        if values is None:
            return None
        columns.append(values)
    return np.mean(columns, axis=0) if columns else None


def overall(results: Results, method: str, control: str = "") -> Float[np.ndarray, " n"] | None:
    """The mean over both questions; of those that have a metric, where one has none."""
    asked = [question for question in QUESTIONS if metrics_of(results, question)]
    columns = [scores(results, method, question, control) for question in asked]
    present = [column for column in columns if column is not None]
    return np.mean(present, axis=0) if present and len(present) == len(columns) else None


def controls_of(results: Results, method: str) -> tuple[str, ...]:
    """The own controls of a method that were computed."""
    return tuple(dict.fromkeys(control for control, name, _ in results.own_controls if name == method))
