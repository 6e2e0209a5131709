"""Options that commands have in common, and completion of names that imports a registry only when asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from heatproof.errors import UsageError

_WHAT, _HOW, _WHERE = "What to work on", "How to judge", "Output"


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


Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=_complete("data"),
        rich_help_panel=_WHAT,
        help="Data set, with options as name:option=value; by default what the model was trained on, else mnist1d.",
    ),
]
Where = Annotated[
    Path | None, typer.Option("--path", metavar="FOLDER", rich_help_panel=_WHAT, help="Where the data lies on disk.")
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        rich_help_panel=_WHAT,
        help="A run, a model folder, a Keras file (.h5, .keras), an exported program (.pt2), package.module:factory, "
        "or a network of torchvision or timm such as resnet18.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=_WHAT,
        help="Weights (.safetensors, or a plain state dict) for --model package.module:factory or resnet18 and its "
        "kind.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        rich_help_panel=_WHAT,
        help="What the outputs of --model are, in order; by default what the model, else the data says.",
    ),
]
Net = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=_complete("nets"),
        rich_help_panel=_WHAT,
        help="Network to train; by default the one that suits the data.",
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=_complete("recipes"),
        rich_help_panel=_WHAT,
        help="How to train; by default hmt for tissue tiles, else fast. Without it a run takes a trained network that "
        "comes with heatproof for the data, where there is one.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", metavar="", rich_help_panel=_WHAT, help="Stop at a bad file instead of skipping it.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", rich_help_panel=_WHAT, help="Explain and judge only N test samples.")
]
Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=_HOW,
        help="Layer for CAMs, several with commas between them; by default the last convolution.",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        autocompletion=_complete("methods"),
        rich_help_panel=_HOW,
        help="Attribution methods; see heatproof list methods.",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        autocompletion=_complete("metrics"),
        rich_help_panel=_HOW,
        help="Metrics; see heatproof list metrics.",
    ),
]
Keep = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        rich_help_panel=_HOW,
        help="Share of positions that average-drop and its kind keep; 0.3 of a signal, 0.9 of an image.",
    ),
]
Fill = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        autocompletion=_complete("fills"),
        rich_help_panel=_HOW,
        help="What removed positions become, a study each; by default black, blur and mean with images, else mean.",
    ),
]
CaseClass = Annotated[
    str | None,
    typer.Option(metavar="NAME", rich_help_panel=_HOW, help="Class of the worked cases; by default the first."),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", rich_help_panel=_HOW, help="All random draws follow from it.")]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=_HOW, help="The options of this command in a YAML file; those typed win."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", rich_help_panel=_WHERE, help="Where results go; by default a folder in runs/."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", rich_help_panel=_WHERE, help="No progress bars.")]
