"""Sections on what decided the numbers, and how to get them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from heatproof.models.card import Card
from heatproof.report.parts import Cell, Code, Part, Section, Table, listed, plural, section
from heatproof.results.record import Results

SAID = {
    "source": "Source",
    "licence": "Licence",
    "license": "Licence",
    "citation": "Please cite",
    "mask": "Planted truth",
    "transform": "Transform",
}
TAKEN = {"seconds": "Seconds of training"}


def settings(results: Results | None, card: Card | None, data: Mapping[str, Any]) -> Section | None:
    """What was set, of the model, the data and the study; what was skipped."""
    about: Mapping[str, Any] = results.about if results is not None else {}
    parts: list[Part | None] = [
        _study(results) if results is not None else None,
        _data(str(about.get("data", "")) or (card.data if card else ""), data or about.get("data_about", {})),
        _bad(data or about.get("data_about", {})),
        _model(card) if card is not None else None,
        _skips(results) if results is not None else None,
        _versions(about, card),
    ]
    return section("settings", "Settings", "Settings", "", parts)


def _study(results: Results) -> Table:
    about = results.about
    fill = str(about.get("fill", ""))
    target = str(about.get("target", "None"))
    rows: list[tuple[Cell, ...]] = [
        ("Samples", f"{len(results):,}, {int(results.right.sum()):,} of them classified rightly"),
        ("Explained class", {"None": "the predicted one", "label": "the true one"}.get(target, _cut(target))),
        ("Score of the model", str(about.get("score", "not recorded"))),
        ("Layer of the CAMs", str(about.get("layer", "not recorded"))),
        ("Removed positions become", f"{fill}: {about.get('fill_summary', '')}" if fill else "not recorded"),
        ("Seed", str(results.seed)),
        ("Intervals", f"{100 * results.level:g} % over samples: BCa bootstrap, Wilson's for shares"),
        ("Methods", ", ".join(results.methods)),
        ("Controls", ", ".join(results.controls) or "none"),
        ("Metrics", ", ".join(results.metrics)),
    ]
    return Table("settings", "The study.", ("Setting", "Value"), tuple(rows))


def _data(name: str, about: Mapping[str, Any]) -> Table | None:
    if not about and not name:
        return None
    about = {key: value for key, value in about.items() if key != "bad"}
    rows = [("Name", name)] if name else []
    rows += [(said, _plain(about[key])) for key, said in SAID.items() if key in about]
    options = [f"{_words(key)} {_plain(value)}" for key, value in about.items() if key not in SAID]
    rows += [("Options", "; ".join(options))] if options else []
    return Table("data", "The data.", ("Fact", "Value"), tuple(rows))


def _bad(about: Mapping[str, Any]) -> Table | None:
    """Files that could not be used."""
    files = about.get("bad", {})
    rows = tuple((str(name), str(why)) for name, why in files.items())
    return Table("bad", f"Left out: {plural(len(rows), 'file')}, and why.", ("File", "Reason"), rows) if rows else None


def _model(card: Card) -> Table:
    rows: list[tuple[Cell, ...]] = [
        ("Architecture", str(card.architecture)),
        ("Input of one sample", _shape(card.input_shape)),
        ("Classes", listed(card.classes, 12)),
        ("Trained on", card.data or "not recorded"),
    ]
    if card.recipe:
        rows.append(("Recipe", _plain({k: v for k, v in card.recipe.items() if v not in (None, "", 0.0)})))
    rows += [("Seed of the training", str(card.seed))] if card.seed is not None else []
    rows += [(TAKEN.get(key, _words(key).capitalize()), _plain(value)) for key, value in card.metrics.items()]
    rows.append(("Saved", _when(card.date)))
    return Table("model", "The model.", ("Fact", "Value"), tuple(rows))


def _skips(results: Results) -> Table | None:
    reasons: dict[tuple[str, str], list[str]] = {}
    for skip in results.skips:
        reasons.setdefault((skip.metric, skip.reason), []).append(skip.method)
    everyone = len(results.methods) + len(results.controls)
    rows = tuple(
        (metric, "every method" if len(methods) == everyone else listed(methods, 12), reason)
        for (metric, reason), methods in reasons.items()
    )
    caption = f"Left out: {plural(len(results.skips), 'combination')} of method and metric, and why."
    return Table("skips", caption, ("Metric", "Method", "Reason"), rows) if rows else None


def _versions(about: Mapping[str, Any], card: Card | None) -> Table | None:
    own: Mapping[str, Any] = about.get("versions", {})
    trained: Mapping[str, Any] = card.versions if card is not None else {}
    names = list(dict.fromkeys([*own, *trained]))
    rows = tuple((name, str(own.get(name, "–")), str(trained.get(name, "–"))) for name in names)
    return Table("versions", "Versions of the software.", ("Package", "Study", "Model"), rows) if rows else None


def reproduce(results: Results | None, card: Card | None, command: str) -> Section | None:
    """The command and the Python that give these numbers again."""
    parts: list[Part | None] = []
    if command:
        parts.append(Code("In a terminal:", command))
    if results is not None:
        python = _python(results, card, limited=" --limit " in command)
        parts.append(Code("In Python, with the trained model and the samples at hand:", python))
    lead = "The same seed, data and versions give the same numbers."
    return section("reproduce", "How to reproduce this", "Reproduce", lead, parts)


def _python(results: Results, card: Card | None, *, limited: bool) -> str:
    about = results.about
    name = str(about.get("data", "")).partition(":")[0] or "data"
    known = card.data if card is not None else ""
    samples = f"data.load({known!r}).test" if known else f"...  # the {name} samples of this study"
    spread = f"samples = samples.take(torch.linspace(0, len(samples) - 1, {len(results)}).round().long())"
    limited = limited and bool(known)
    target = str(about.get("target", "None"))
    options = [
        f"methods={_column(results.methods)}",
        f"metrics={_column(results.metrics)}",
        f"fill={str(about.get('fill', 'mean'))!r}",
        f"controls={bool(results.controls)}",
        f"seed={results.seed}",
        *([f"target={target!r}"] if target == "label" else []),
    ]
    lines = [
        "import torch" if limited else "",
        "import heatproof as hp",
        "" if not known else "from heatproof import data\n",
        'model = hp.load("model")  # the folder of the saved model',
        f"samples = {samples}",
        spread if limited else "",
        f"probe = hp.Probe(model, score={str(about.get('score', 'probability'))!r})",
        "results = hp.study(\n    probe,\n    samples,\n    " + ",\n    ".join(options) + ",\n)",
        'results.report("report.html")',
    ]
    return "\n".join(line for line in lines if line)


def _column(names: Sequence[str]) -> str:
    """A list in Python, a name a line where it is long."""
    short = f"[{', '.join(map(repr, names))}]"
    return short if len(short) < 80 else "[\n" + "".join(f"        {name!r},\n" for name in names) + "    ]"


def _shape(sizes: Sequence[int | None]) -> str:
    """Sizes of an input, channels first.

    >>> _shape((1, None, 40)), _shape(())
    ('1 × any × 40', 'not recorded')
    """
    return " × ".join("any" if size is None else str(size) for size in sizes) or "not recorded"


def _when(date: str) -> str:
    """A date in ISO form to the minute, as people write it; what is none of that form as it is.

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
