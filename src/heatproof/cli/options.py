"""Options that commands have in common, and completion of names that imports a registry only when asked."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from heatproof.errors import UsageError


def names_of(kind: str) -> list[str]:
    """The names in one of the registries."""
    from heatproof import pipeline

    return list(pipeline.registry(kind))


def _complete(kind: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + name for name in names_of(kind) if name.startswith(last)]

    return complete


def split(texts: str | None) -> tuple[str, ...]:
    """The specs in a comma-separated list; a comma may also stand between a spec's options.

    >>> split("deletion,average-drop:keep=0.3,ties=drop,insertion")
    ('deletion', 'average-drop:keep=0.3,ties=drop', 'insertion')
    """
    found: list[str] = []
    for part in (texts or "").split(","):
        item = part.strip()
        if "=" in item and ":" not in item:
            if not found:
                raise UsageError(f"got {texts!r}: option {item!r} stands before any name; write name:option=value")
            found[-1] += ("," if ":" in found[-1] else ":") + item
        elif item:
            found.append(item)
    return tuple(found)


def quoted(text: str | None) -> tuple[str, ...]:
    """The names in a comma-separated list; one that holds a comma stands in double quotes, doubled within them.

    >>> quoted('benign, "in situ, low grade", "5"" wide"')
    ('benign', 'in situ, low grade', '5" wide')
    """
    try:
        rows = list(csv.reader([text or ""], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(f'got {text!r}: double quotes have to stand around whole names, as in a,"b, c"') from error
    return tuple(name.strip() for row in rows for name in row if name.strip())


def _option(panel: str, metavar: str, text: str, *flags: str, names: str = "", **more: Any) -> Any:
    """An option with its help; ``names`` is the registry that its values are completed from."""
    complete = _complete(names) if names else None
    return typer.Option(*flags, metavar=metavar, rich_help_panel=panel, help=text, autocompletion=complete, **more)


_what, _how, _where = (partial(_option, panel) for panel in ("What to work on", "How to judge", "Output"))

_DATA = "Data set, with options as name:option=value; by default what the model was trained on, else mnist1d."
_MODEL = (
    "A run, a model folder, a Keras file (.h5, .keras), an exported program (.pt2), package.module:factory, "
    "or a network of torchvision or timm such as resnet18."
)
_WEIGHTS = "Weights (.safetensors, or a plain state dict) for --model package.module:factory or resnet18 and its kind."
_CLASSES = (
    "What the outputs of --model are, in order; by default what the model, else the data says. A name with a comma "
    "stands in double quotes: 'a,\"b, c\"'."
)
_RECIPE = (
    "How to train; by default hmt for tissue tiles, else fast. Without it a run takes a trained network that comes "
    "with heatproof for the data, where there is one."
)
_KEEP = "Share of positions that average-drop and its kind keep; 0.3 of a signal, 0.9 of an image."
_FILL = "What removed positions become, a study each; by default black, blur and mean with images, else mean."
_TRIALS = (
    "Do not try the metrics on inverted maps and noise, nor the model against random twins: quicker, and the verdict "
    "knows less."
)
_LAYER = "Layer for CAMs, several with commas between them; by default the last convolution."

Data = Annotated[str | None, _what("NAME", _DATA, names="data")]
Where = Annotated[Path | None, _what("FOLDER", "Where the data lies on disk.", "--path")]
Model = Annotated[str | None, _what("MODEL", _MODEL)]
Weights = Annotated[Path | None, _what("FILE", _WEIGHTS)]
Classes = Annotated[str | None, _what("A,B", _CLASSES)]
Net = Annotated[str | None, _what("NAME", "Network to train; by default the one that suits the data.", names="nets")]
Recipe = Annotated[str | None, _what("NAME", _RECIPE, names="recipes")]
Strict = Annotated[bool, _what("", "Stop at a bad file instead of skipping it.", "--strict")]
Limit = Annotated[int | None, _what("N", "Explain and judge only N test samples.", min=1)]
Layer = Annotated[str | None, _how("NAME", _LAYER)]
Methods = Annotated[str | None, _how("A,B", "Attribution methods; see heatproof list methods.", names="methods")]
Metrics = Annotated[str | None, _how("A,B", "Metrics; see heatproof list metrics.", names="metrics")]
Keep = Annotated[float | None, _how("SHARE", _KEEP)]
Fill = Annotated[str | None, _how("A,B", _FILL, names="fills")]
CaseClass = Annotated[str | None, _how("NAME", "Class of the worked cases; by default the first.")]
NoTrials = Annotated[bool, _how("", _TRIALS, "--no-trials")]
Workers = Annotated[str, _how("KIND", "Who judges: serial, processes:4, or ray; same numbers.")]
Seed = Annotated[int, _how("N", "All random draws follow from it.", min=0)]
Config = Annotated[Path | None, _how("FILE", "The options of this command in a YAML file; those typed win.")]
Out = Annotated[Path | None, _where("FOLDER", "Where results go; by default a folder in runs/.")]
Quiet = Annotated[bool, _where("", "No progress bars.", "--quiet", "-q")]
