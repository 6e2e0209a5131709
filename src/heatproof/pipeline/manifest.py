"""``run.json``: the run that a folder belongs to. A folder of the same run, whole or in part, is taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heatproof.errors import FileError, FolderInUse
from heatproof.files import writing
from heatproof.pipeline.plan import Plan, identity
from heatproof.settings import create, options, plain

RUN = "run.json"


def claim(folder: Path, plan: Plan) -> None:
    """Take a folder for a run of this plan.

    Raises: FolderInUse where it holds something else, FileError where it cannot be read or written.
    """
    manifest = folder / RUN
    if manifest.exists():
        try:
            earlier = _plan(manifest)
        except FileError:
            raise FileError(f"{str(manifest)!r} is damaged; choose another folder with --out") from None
        differences = _differences(earlier, plan)
        if differences:
            raise FolderInUse(
                f"{str(folder)!r} was made with other settings ({'; '.join(differences)}); "
                "choose another folder with --out"
            )
        if earlier == plan:
            return
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderInUse(f"{str(folder)!r} holds files of something else; choose another folder with --out")
    with writing(manifest) as part:
        part.write_text(json.dumps({"heatproof": "run", "plan": plain(plan)}, indent=2) + "\n", encoding="utf-8")


def _differences(there: Plan, here: Plan) -> list[str]:
    """What decides the numbers and differs between two plans, as "seed: 0 there, 1 here"."""
    earlier, now = identity(there), identity(here)
    return [f"{key}: {_said(earlier[key])} there, {_said(now[key])} here" for key in now if earlier[key] != now[key]]


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "the default"
    return "the default" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def claimed(folder: Path, plan: Plan) -> Iterator[None]:
    """A folder taken by `claim`, and let go of where the block fails before anything else is in it."""
    taken = (folder / RUN).exists()
    claim(folder, plan)
    try:
        yield
    except BaseException:
        if not taken and [entry.name for entry in folder.iterdir()] == [RUN]:
            (folder / RUN).unlink()
            folder.rmdir()
        raise


def read_plan(folder: Path) -> Plan:
    """The plan of the run in a folder.

    Raises: FileError where there is none, or it is damaged.
    """
    if not (folder / RUN).exists():
        raise FileError(f"{str(folder)!r} holds no run ({RUN} is missing)")
    return _plan(folder / RUN)


def _plan(manifest: Path) -> Plan:
    """The plan in a ``run.json``; options that its version did not have yet have their defaults."""
    try:
        page = json.loads(manifest.read_text(encoding="utf-8"))["plan"]
        return create(Plan, {name: page[name] for name in options(Plan) if name in page})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FileError(f"{str(manifest)!r} is damaged") from None
