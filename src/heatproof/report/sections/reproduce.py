"""How to reproduce this: the command and the Python that give the same numbers again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heatproof.report.content import Content
from heatproof.report.parts import Code, Part, Section, compose
from heatproof.results.record import Results

WIDTH = 80  # letters of a list that is written on one line


def section(content: Content) -> Section | None:
    """The command that was typed, and the same study in Python."""
    parts: list[Part | None] = []
    if content.command:
        parts.append(Code("In a terminal:", content.command))
    if content.results is not None:
        parts.append(Code("In Python, with the trained model and the samples:", _python(content, content.results)))
    lead = "The same seed, data and versions give the same numbers."
    return compose("reproduce", "How to reproduce this", "Reproduce", lead, parts)


def _python(content: Content, results: Results) -> str:
    about, evaluated = results.about, content.pictures.evaluated
    data = content.card.data if content.card is not None else ""
    limited = bool(data) and evaluated is not None and len(results) < len(evaluated)
    samples = f"hp.data.load({data!r}).test" if data else f"...  # {about.get('data', 'the samples of this study')}"
    spread = f"samples = samples.take(torch.linspace(0, len(samples) - 1, {len(results)}).round().long())"
    target = str(about.get("target", "None"))
    fills = [study.fill for study in (results, *content.others)]
    options = [
        f"fills={fills!r}",
        f"controls={bool(results.controls)}",
        f"level={results.level:g}",
        f"seed={results.seed}",
        *([f"target={target!r}"] if target in ("label", "positive", *results.classes) else []),
    ]
    lines = [
        "import torch\n" if limited else "",
        "import heatproof as hp\n",
        'model = hp.load("model")  # the folder of the saved model',
        f"samples = {samples}",
        spread if limited else "",
        f"probe = hp.Probe(model, score={str(about.get('score', 'probability'))!r}{_outputs(about)})",
        f"options = hp.StudyOptions({', '.join(options)})",
        "results = hp.study(\n    probe,\n    samples,",
        f"    methods={_column(results.methods)},",
        f"    metrics={_column(results.metrics)},",
        "    options=options,\n)",
        'results.report("report.html")',
    ]
    return "\n".join(line for line in lines if line)


def _outputs(about: Mapping[str, Any]) -> str:
    """How the outputs were read, as an option of the probe."""
    return f", outputs={about['outputs']!r}" if "outputs" in about else ""


def _column(names: Sequence[str]) -> str:
    """A list in Python, a name a line where it is long."""
    short = f"[{', '.join(map(repr, names))}]"
    return short if len(short) < WIDTH else "[\n" + "".join(f"        {name!r},\n" for name in names) + "    ]"
