"""What a run does where the plan leaves it open: the model, the network, the fills, the share that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from heatproof.models.card import CARD, read_card
from heatproof.pipeline.plan import Plan
from heatproof.pipeline.registries import registry
from heatproof.probe.state import note
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.studies.options import StudyOptions

IMAGE_FILLS, FILL = (Spec("black"), Spec("blur"), Spec("mean")), Spec("mean")
MNIST1D, FAST, TISSUE_RECIPE = Spec("mnist1d"), Spec("fast"), Spec("hmt")
LARGE = 64  # pixels; networks for tissue halve smaller images too often


def fills_of(plan: StudyOptions, samples: Samples) -> tuple[Spec, ...]:
    """The fills, each once: the plan's, else three for images and one for signals and volumes."""
    return tuple(dict.fromkeys(plan.fills)) or (IMAGE_FILLS if samples.x.ndim == 4 else (FILL,))


def keep_of(plan: StudyOptions, samples: Samples) -> float | None:
    """The share of positions that metrics keep: the plan's, else the study's own choice; None for the metrics' own."""
    from heatproof.studies.plan import keep_of as by_default

    return by_default(samples) if plan.keep is None else plan.keep


def net_of(plan: Plan, samples: Samples) -> Spec | None:
    """The network to train: the plan's, else one that suits the inputs; None for what training takes itself."""
    if plan.net is not None or samples.x.ndim == 3:
        return plan.net
    return Spec("tissue-resnet" if samples.x.ndim == 4 and min(samples.x.shape[2:]) >= LARGE else "small-cnn")


def recipe_for(data: Spec | None) -> Spec:
    """The recipe to train by where none is named."""
    return TISSUE_RECIPE if data is not None and data.name == "hmt" else FAST


def shipped_for(plan: Plan) -> str | None:
    """The network that ships with the package for the plan's data, where the plan names no model and no recipe.

    The one that the plan names, else the most accurate. Options that change which samples are for testing rule it out:
    it may have been trained on them.
    """
    from heatproof import nets

    if plan.data is None or plan.model is not None or plan.recipe is not None:
        return None
    accuracies = dict[str, float]()
    for name in nets.shipped():
        card, _ = read_card(nets.weights(name) / CARD)
        fits = bool(card.data) and Spec.parse(card.data).name == plan.data.name
        if fits and set(plan.data.kwargs) <= {"size", "strict"} and plan.net in (None, card.architecture):
            accuracies[name] = card.metrics.get("test_accuracy", 0.0)
    return max(accuracies, key=lambda name: accuracies[name]) if accuracies else None


def announce_shipped(name: str, samples: Samples) -> None:
    """Say that a shipped network is used, and where it has been trained on samples that are to test it."""
    from heatproof.data.fetch import heldout, stem

    note(f"no model or recipe given: {name}, the network that ships with heatproof for these data, is used unchanged")
    unseen = set(map(stem, heldout()))
    seen = sum(stem(name) not in unseen for name in samples.ids)
    if seen:
        note(f"{name} was trained on {seen:,} of these {len(samples):,} test samples; its accuracy on them says little")


def data_of(plan: Plan) -> Spec | None:
    """The plan's data set, strict where the plan is."""
    if plan.data is None or not plan.strict or "strict" not in registry("data")[plan.data.name].options:
        return plan.data
    return Spec(plan.data.name, tuple(sorted({**plan.data.kwargs, "strict": True}.items())))


def with_all_bad_files(splits: Splits) -> Splits:
    """The splits, the test samples also listing which training files were skipped."""
    parts = {name: bad_files(part) for name, part in (("train", splits.train), ("test", splits.test))}
    if not parts["train"] or "split" in splits.test.about:  # of one tree, both parts list all files
        return splits
    bad = {f"{name}/{file}": why for name, files in parts.items() for file, why in files.items()}
    return replace(splits, test=replace(splits.test, about={**splits.test.about, "bad": bad}))


def bad_files(samples: Samples) -> Mapping[str, Any]:
    """Why files were skipped, by their paths."""
    files: Mapping[str, Any] = samples.about.get("bad", {})
    return files
