"""Families of metrics: what each tells, and its part in the verdict. Metrics of one family count once."""

from __future__ import annotations

from dataclasses import dataclass

from heatproof.registry import Catalogue


@dataclass(frozen=True)
class Family:
    """A family of metrics.

    Attributes:
        name: kebab-case. summary: what its metrics tell, one sentence.
        bears_on_truth: its metrics say something about which map is right.
        beatable: a control can be beaten by its metrics; it cannot where a map that ignores the input scores best.
    """

    name: str
    summary: str
    bears_on_truth: bool = False
    beatable: bool = False


families: Catalogue[Family] = Catalogue("family of metrics")

families.add(
    Family(
        "faithfulness",
        "How the score changes when positions are removed in the order of their relevance.",
        bears_on_truth=True,
        beatable=True,
    )
)
families.add(
    Family(
        "evidence",
        "How far the relevance agrees with what windows of the input are worth to the model. The worths are computed "
        "without any map; the verdict rests on this family.",
        bears_on_truth=True,
        beatable=True,
    )
)
families.add(
    Family(
        "localisation",
        "Whether the relevance lies within the positions that decide the class: a mask, or a piece of the sample that "
        "was set into another one.",
        bears_on_truth=True,
        beatable=True,
    )
)
families.add(
    Family(
        "robustness",
        "How much the map changes when the input changes a little. A map that ignores the input never changes.",
        bears_on_truth=True,
    )
)
families.add(Family("complexity", "Over how many positions the relevance spreads. A tidy map is not a correct one."))
families.add(Family("randomisation", "Whether the map changes when the model, the labels or the class are replaced."))
families.add(Family("axioms", "Properties that attributions should have by definition."))
