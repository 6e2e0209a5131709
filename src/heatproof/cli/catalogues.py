"""heatproof list, heatproof data fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heatproof.cli import messages
from heatproof.pipeline.registries import Kind, registry


def add(app: typer.Typer) -> None:
    """Put the commands of this module into the app."""
    app.command("list", epilog="Example: heatproof list methods")(list_)
    data = typer.Typer(help="Fetch data sets.", no_args_is_help=True, rich_markup_mode="rich")
    data.command("fetch", epilog="Example: heatproof data fetch hmt")(fetch)
    app.add_typer(data, name="data")


def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """Everything that has a name: methods, metrics, fills, data sets, recipes, networks."""
    from heatproof.cli import tables

    messages.out().print(tables.catalogue(kind, registry(kind)))


def fetch(
    name: Annotated[str, typer.Argument(help="The data set, such as hmt.")],
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to put it; by default a cache.")] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="A mirror to fetch it from.")] = None,
    digest: Annotated[str | None, typer.Option(metavar="SUM", help="The mirror's checksum, as sha384:...")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Decides the random draw of the test images.")] = 0,
) -> None:
    """Download a data set, check it, and split it into training and test images."""
    from heatproof import data

    folder = data.fetch(name, out, url=url, digest=digest, seed=seed)
    messages.place(f"Data set {name}", folder)
