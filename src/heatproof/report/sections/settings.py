"""Settings: of the study, the data and the model; what was skipped, and the versions of the software."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from heatproof.annotations import Task
from heatproof.errors import UsageError
from heatproof.models.card import Card
from heatproof.phrases import listed, plural
from heatproof.preprocessing import from_record
from heatproof.report.content import Content
from heatproof.report.parts import Cell, Part, Section, Table, compose
from heatproof.results.record import Results

SOURCES = {
    "source": "Source",
    "licence": "Licence",
    "license": "Licence",
    "citation": "Please cite",
    "mask": "Planted truth",
    "preprocessing": "Preprocessing",
}
NOUNS: Mapping[Task, str] = {"classes": "class", "labels": "label", "regression": "output"}
TARGETS: Mapping[Task, Mapping[str, str]] = {
    "classes": {"None": "the predicted class", "label": "the true class"},
    "labels": {"None": "the most probable label", "positive": "every positive label of every sample"},
    "regression": {"None": "the output itself"},
}
MEASURES = {"seconds": "Seconds of training"}


def section(content: Content) -> Section | None:
    """What was set, of the model, the data and the study; what was skipped."""
    results, card = content.results, content.card
    about: Mapping[str, Any] = results.about if results is not None else {}
    evaluated = content.pictures.evaluated
    data = (evaluated.about if evaluated is not None else {}) or about.get("data_about", {})
    parts: list[Part | None] = [
        _study(results) if results is not None else None,
        _data(str(about.get("data", "")) or (card.data if card else ""), data),
        _unreadable(data),
        _model(card) if card is not None else None,
        _skips(results) if results is not None else None,
        _versions(about, card),
    ]
    return compose("settings", "Settings", "Settings", "", parts)


def _study(results: Results) -> Table:
    about = results.about
    fill, target = str(about.get("fill", "")), str(about.get("target", "None"))
    rows: list[tuple[Cell, ...]] = [
        ("Samples", _samples(results)),
        (f"Explained {NOUNS[results.task]}", TARGETS[results.task].get(target, _cut(target))),
        ("Score for metrics", str(about.get("score", "not recorded")) if results.gradable else "the output itself"),
        ("Outputs of the model", str(about.get("outputs_about", "not recorded"))),
        ("Layer of the CAMs", str(about.get("layer", "not recorded"))),
        ("Fill of removed positions", f"{fill}: {about.get('fill_summary', '')}" if fill else "not recorded"),
        ("Seed", str(results.seed)),
        ("Intervals", f"{100 * results.level:g} % over samples: Student's t corrected for skewness, exact for shares"),
        ("Methods", ", ".join(results.methods)),
        ("Controls", ", ".join(results.controls) or "none"),
        ("Metrics", ", ".join(results.metrics)),
    ]
    return Table("settings", "The study.", ("Setting", "Value"), tuple(rows))


def _samples(results: Results) -> str:
    """How many samples, or pairs of a sample and a label, and how many of them are predicted correctly."""
    pairs = results.about.get("pairs")
    count = f"{len(results):,}"
    if pairs:
        count = f"{pairs['pairs']:,} positive labels of {plural(pairs['samples'], 'sample')}"
        count += f" ({pairs['left_out']:,} without a positive label left out)" if pairs["left_out"] else ""
    if not results.gradable:
        return count
    correct = int(results.correct.sum())
    return f"{count}, {correct:,} of them {'classified' if results.task == 'classes' else 'predicted'} correctly"


def _data(name: str, about: Mapping[str, Any]) -> Table | None:
    if not about and not name:
        return None
    about = {key: value for key, value in about.items() if key != "bad"}
    rows = [("Name", name)] if name else []
    rows += [(label, _source(key, about[key])) for key, label in SOURCES.items() if key in about]
    options = [f"{_words(key)} {_plain(value)}" for key, value in about.items() if key not in SOURCES]
    rows += [("Options", "; ".join(options))] if options else []
    return Table("data", "The data.", ("Property", "Value"), tuple(rows))


def _source(key: str, value: object) -> str:
    """What is recorded of the samples under a name; a preprocessing in words."""
    if key == "preprocessing" and isinstance(value, Mapping):
        with suppress(UsageError):
            return str(from_record(value))
    return _plain(value)


def _unreadable(about: Mapping[str, Any]) -> Table | None:
    """Files that could not be used."""
    rows = tuple((str(name), str(reason)) for name, reason in about.get("bad", {}).items())
    return Table("bad", f"{plural(len(rows), 'file')} not used.", ("File", "Reason"), rows) if rows else None


def _model(card: Card) -> Table:
    rows: list[tuple[Cell, ...]] = [
        ("Architecture", str(card.architecture)),
        ("Input of one sample", _shape(card.input_shape)),
        ("Outputs", card.outputs or "not recorded"),
        ("Preprocessing", "not recorded" if card.preprocessing is None else str(card.preprocessing)),
        ("Classes", listed(card.classes, 12) or "none"),
        ("Trained on", card.data or "not recorded"),
    ]
    if card.recipe:
        rows.append(("Recipe", _plain({k: v for k, v in card.recipe.items() if v not in (None, "", 0.0)})))
    rows += [("Seed of the training", str(card.seed))] if card.seed is not None else []
    rows += [(MEASURES.get(key, _words(key).capitalize()), _plain(value)) for key, value in card.metrics.items()]
    rows.append(("Saved", _when(card.date)))
    return Table("model", "The model.", ("Property", "Value"), tuple(rows))


def _skips(results: Results) -> Table | None:
    reasons: dict[tuple[str, str], list[str]] = {}
    for skip in results.skips:
        reasons.setdefault((skip.metric, skip.reason), []).append(skip.method)
    everyone = len(results.methods) + len(results.controls)
    rows = tuple(
        (metric, "every method" if len(methods) == everyone else listed(methods, 12), reason)
        for (metric, reason), methods in reasons.items()
    )
    caption = f"{plural(len(results.skips), 'combination')} of method and metric not computed."
    return Table("skips", caption, ("Metric", "Method", "Reason"), rows) if rows else None


def _versions(about: Mapping[str, Any], card: Card | None) -> Table | None:
    study: Mapping[str, Any] = about.get("versions", {})
    model: Mapping[str, Any] = card.versions if card is not None else {}
    names = list(dict.fromkeys([*study, *model]))
    rows = tuple((name, str(study.get(name, "–")), str(model.get(name, "–"))) for name in names)
    return Table("versions", "Versions of the software.", ("Package", "Study", "Model"), rows) if rows else None


def _shape(sizes: Sequence[int | None]) -> str:
    """Sizes of an input, channels first.

    >>> _shape((1, None, 40)), _shape(())
    ('1 × any × 40', 'not recorded')
    """
    return " × ".join("any" if size is None else str(size) for size in sizes) or "not recorded"


def _when(date: str) -> str:
    """A date in ISO form to the minute, as people write it; any other text unchanged.

    >>> _when("2026-11-23T06:21:56+00:00"), _when("yesterday")
    ('2026-11-23 06:21 UTC', 'yesterday')
    """
    try:
        return datetime.fromisoformat(date).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return date


def _words(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: object) -> str:
    """A setting as people write it.

    >>> _plain({"shuffle": False, "step_every": 15, "seed": None, "shift": 0.10000001})
    'shuffle no, step every 15, seed none, shift 0.1'
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(str(key))} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return _cut(", ".join(map(_plain, value)))
    return f"{value:.4g}" if isinstance(value, float) else _cut(str(value))


def _cut(words: str, most: int = 400) -> str:
    return words if len(words) <= most else f"{words[:most]}…"
