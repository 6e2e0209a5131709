"""What a run does where the plan leaves it open: the model, the network, the fills, the share that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heatproof.models.card import CARD, read_card
from heatproof.pipeline.plan import Plan, registry
from heatproof.probe.state import note
from heatproof.records import Samples, Splits
from heatproof.registry import Spec

IMAGE_FILLS, FILL = ("black", "blur", "mean"), "mean"
LARGE = 64  # pixels; networks for tissue halve smaller images too often


def fills_of(plan: Plan, samples: Samples) -> tuple[str, ...]:
    """The baselines, each once: the plan's, else three for images and one for signals and volumes."""
    return tuple(dict.fromkeys(plan.fill)) or (IMAGE_FILLS if samples.x.ndim == 4 else (FILL,))


def keep_of(plan: Plan, samples: Samples) -> float | None:
    """The share of positions that metrics keep: the plan's, else the study's own choice; None for the metrics' own."""
    from heatproof.studies.plan import keep_of as by_default

    return by_default(samples) if plan.keep is None else plan.keep


def net_of(plan: Plan, samples: Samples) -> str | None:
    """The network to train: the plan's, else one that suits the inputs; None for what training takes itself."""
    if plan.net is not None or samples.x.ndim == 3:
        return plan.net
    return "tissue-resnet" if samples.x.ndim == 4 and min(samples.x.shape[2:]) >= LARGE else "small-cnn"


def recipe_for(data: str | None) -> str:
    """The recipe to train by where none is named."""
    return "hmt" if data is not None and Spec.parse(data).name == "hmt" else "fast"


def shipped_for(plan: Plan) -> str | None:
    """The network that comes with the package for the plan's data, where the plan names no model and no recipe.

    The one that the plan names, else the most accurate. Options that change which samples are for testing rule it out:
    it may have been trained on them.
    """
    from heatproof import nets

    if plan.data is None or not (plan.model is plan.recipe is None):
        return None
    spec, found = registry("data").spec(plan.data), dict[str, float]()
    for name in nets.shipped():
        card, _ = read_card(nets.weights(name) / CARD)
        theirs = bool(card.data) and Spec.parse(card.data).name == spec.name and set(spec.kwargs) <= {"size", "strict"}
        if theirs and (plan.net is None or Spec.parse(plan.net) == card.architecture):
            found[name] = card.metrics.get("test_accuracy", 0.0)
    return max(found, key=lambda name: found[name]) if found else None


def tell_shipped(name: str, samples: Samples) -> None:
    """Say that a shipped network is used, and where it has been trained on samples that are to test it."""
    from heatproof.data.fetch import heldout, stem

    note(f"no model or recipe given: {name}, the network that comes with heatproof for these data, is used as it is")
    unseen = set(map(stem, heldout()))
    seen = sum(stem(name) not in unseen for name in samples.ids)
    if seen:
        note(f"{name} was trained on {seen} of these {len(samples)} test samples; its accuracy on them says little")


def strictly(plan: Plan) -> Spec:
    """The plan's data, told to be strict where the plan is."""
    assert plan.data is not None
    spec = registry("data").spec(plan.data)
    if plan.strict and "strict" in registry("data")[spec.name].options:
        return Spec(spec.name, tuple(sorted({**spec.kwargs, "strict": True}.items())))
    return spec


def told_of_both(splits: Splits) -> Splits:
    """The splits, the test samples also telling which training files were skipped."""
    parts = {name: bad_files(part) for name, part in (("train", splits.train), ("test", splits.test))}
    if not parts["train"] or "split" in splits.test.about:  # of one tree, both parts tell of all files
        return splits
    bad = {f"{name}/{file}": why for name, found in parts.items() for file, why in found.items()}
    return replace(splits, test=replace(splits.test, about={**splits.test.about, "bad": bad}))


def bad_files(samples: Samples) -> Mapping[str, Any]:
    """Why files were skipped, by their paths."""
    found: Mapping[str, Any] = samples.about.get("bad", {})
    return found
