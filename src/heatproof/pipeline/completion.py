"""What a finished run left in its folder, and whether it may be taken up as it is.

``done.json`` is written last. It holds what decides the run (the version of heatproof, its plan, the sizes and times of
the files of its data and its model), what decides its report alone, and the sizes and times of its results. Where all
of it still holds, the run is read from its files. Where the version or the inputs have changed, all but the training is
done again; where only a result is missing or the report would differ, the stages do what is left to do.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heatproof import version
from heatproof.annotations import Task
from heatproof.errors import FileError
from heatproof.files import writing
from heatproof.models.factory import factory_file
from heatproof.models.folder import place
from heatproof.pipeline.plan import Plan, display, identity
from heatproof.records import Estimate

DONE = "done.json"
STUDY_PAGE = "study.json"


@dataclass(frozen=True)
class Measured:
    """The model's numbers as its finished run left them, each with its interval, its task, and on how many samples."""

    intervals: Mapping[str, Estimate]
    samples: int
    task: Task

    def __len__(self) -> int:
        return self.samples


def provenance(plan: Plan) -> dict[str, Any]:
    """What decides a run: the version, the plan, and the state of the files it names."""
    places = {"path": plan.path, "model": plan.model and place(plan.model)[1], "weights": plan.weights}
    places |= {} if plan.model is None else {"factory": factory_file(plan.model)}
    files = {name: _state(Path(file)) for name, file in places.items() if file}
    return {"version": version.__version__, "plan": identity(plan), "files": files}


def mark(folder: Path, plan: Plan, results: Iterable[Path]) -> None:
    """Note that the run is finished, with these files as its results."""
    stamps = {str(path.relative_to(folder)): _stamp(path) for path in results}
    page = {**provenance(plan), "display": display(plan), "results": stamps}
    with writing(folder / DONE) as part:
        part.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")


def whole(folder: Path, plan: Plan) -> bool:
    """Whether the folder holds the finished run of this plan, and nothing has changed since."""
    page = _page(folder)
    if page is None or _stale(page, plan) or page.get("display") != display(plan):
        return False
    results: Mapping[str, str] = page.get("results", {})
    return bool(results) and all(_stamp(folder / name) == stamp for name, stamp in results.items())


def clear(folder: Path, plan: Plan, maps: str, study: str) -> None:
    """Remove the maps and the study of a run by another version, or from files that have changed since."""
    page = _page(folder)
    stale = page is not None and _stale(page, plan)
    if stale or _version(folder / study / STUDY_PAGE) not in ("", version.__version__):
        (folder / DONE).unlink(missing_ok=True)
        (folder / maps).unlink(missing_ok=True)
        shutil.rmtree(folder / study, ignore_errors=True)


def _stale(page: Mapping[str, Any], plan: Plan) -> bool:
    return {key: page.get(key) for key in ("version", "plan", "files")} != provenance(plan)


def measured(path: Path) -> Measured:
    """The numbers in a run's performance.json.

    Raises: FileError where it is damaged.
    """
    estimates = numbers(path)
    page = json.loads(path.read_text(encoding="utf-8"))
    return Measured(estimates, int(page["samples"]), page["task"])


def numbers(path: Path) -> dict[str, Estimate]:
    """The classifier's numbers in a performance.json; none where there is none.

    Raises: FileError where it is damaged.
    """
    if not path.exists():
        return {}
    try:
        page = json.loads(path.read_text(encoding="utf-8"))["numbers"]
        return {str(key): _estimate(entry) for key, entry in page.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FileError(f"{str(path)!r} is damaged; evaluate the model again") from None


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    """An estimate from JSON, where NaN is null."""
    mean, low, high = (math.nan if entry[key] is None else float(entry[key]) for key in ("mean", "low", "high"))
    return Estimate(mean, low, high, int(entry["n"]), int(entry["undefined"]), float(entry.get("level", 0.95)))


def _page(folder: Path) -> dict[str, Any] | None:
    try:
        page = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return page if isinstance(page, dict) else None


def _version(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["identity"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _state(path: Path) -> str:
    """A fingerprint of the names, sizes and times of a file or of all files below a folder."""
    state = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            state.update(f"{file.relative_to(path)}:{_stamp(file)}\n".encode())
    return state.hexdigest()[:16]


def _stamp(path: Path) -> str:
    if not path.is_file():
        return ""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
