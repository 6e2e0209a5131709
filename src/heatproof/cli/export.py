"""heatproof export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import options, screen
from heatproof.errors import UsageError


def add(app: typer.Typer) -> None:
    """Put the command of this module into the app."""
    app.command(epilog="Example: heatproof export runs/mnist1d --to mnist1d.onnx")(export)


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="What other commands take as --model.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it: .keras, .h5, .onnx or .pt2.")],
    weights: options.Weights = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="C,H,W", help="Shape of one sample, channels first; by default what the model says."),
    ] = None,
) -> None:
    """Write a model for Keras, ONNX or torch.export; the file is read back and has to predict the same."""
    from heatproof.models import names as models
    from heatproof.models.card import card_of

    found = models.model(model, weights=weights)
    screen.place("Model", models.write(found, to, _sizes(shape)))
    card = card_of(found)
    if card is not None and card.classes:
        screen.say(f"Outputs, in order: {', '.join(card.classes)}")


def _sizes(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--shape: got {text!r}, expected whole numbers such as 3,224,224")
    return tuple(map(int, parts))
