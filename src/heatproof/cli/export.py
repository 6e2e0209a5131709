"""heatproof export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import messages
from heatproof.errors import UsageError
from heatproof.pipeline.plan import WEIGHTS


def add(app: typer.Typer) -> None:
    """Put the command of this module into the app."""
    app.command(epilog="Example: heatproof export runs/mnist1d --to mnist1d.onnx")(export)


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="What other commands take as --model.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it: .keras, .h5, .onnx or .pt2.")],
    weights: Annotated[Path | None, typer.Option(metavar=WEIGHTS.metavar, help=WEIGHTS.help)] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="C,H,W", help="Shape of one sample, channels first; by default that of the model's card."),
    ] = None,
) -> None:
    """Write a model for Keras, ONNX or torch.export; the file is read back and has to predict the same."""
    from heatproof.models import names as models
    from heatproof.models.card import card_of

    network = models.model(model, weights=weights)
    messages.place("Model", models.write(network, to, _sizes(shape)))
    card = card_of(network)
    if card is not None and card.classes:
        messages.say(f"Outputs, in order: {', '.join(card.classes)}")


def _sizes(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--shape: got {text!r}, expected whole numbers such as 3,224,224")
    return tuple(map(int, parts))
