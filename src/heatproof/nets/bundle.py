"""Trained networks that come with the package."""

from __future__ import annotations

from pathlib import Path

from heatproof.errors import UnknownName

_HOME = Path(__file__).parent / "weights"


def shipped() -> tuple[str, ...]:
    """The names of the trained networks that come with the package."""
    return tuple(sorted(path.parent.name for path in _HOME.glob("*/card.json")))


def weights(name: str) -> Path:
    """The folder of a trained network, to be given to `heatproof.load`; MODEL_CARD.md in it says what it is good for.

    Raises: UnknownName where no such network is shipped.
    """
    if name not in shipped():
        raise UnknownName("shipped network", name, shipped())
    return _HOME / name
