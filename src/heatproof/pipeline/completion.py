"""What a finished run left in its folder, and whether it may be taken up as it is.

``done.json`` is written last. It holds the version of heatproof, what the run was made from (its plan, the sizes and
times of the files of its data and its model) and the sizes and times of what it made. Where all of it still holds, the
same run is read from its files. Where the version or what it was made from has changed, all but the training is done
again; where only a result is missing, the stages see for themselves what they still have.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import heatproof
from heatproof.errors import FileError
from heatproof.files import writing
from heatproof.pipeline.plan import Plan
from heatproof.records import Estimate

DONE = "done.json"
STUDIED = "study.json"


@dataclass(frozen=True)
class Measured:
    """The classifier's numbers as its finished run left them, each with its interval, and on how many samples."""

    intervals: Mapping[str, Estimate]
    samples: int

    def __len__(self) -> int:
        return self.samples


def made_from(plan: Plan) -> dict[str, Any]:
    """What decides a run: the version, the plan, and the state of the files it names."""
    files = {name: _state(Path(found)) for name in ("path", "model", "weights") if (found := getattr(plan, name))}
    return {"version": heatproof.__version__, "plan": json.loads(json.dumps(asdict(plan))), "files": files}


def mark(folder: Path, plan: Plan, made: Iterable[Path]) -> None:
    """Note that the run is finished, and has made these files."""
    results = {str(path.relative_to(folder)): _print(path) for path in made}
    with writing(folder / DONE) as part:
        part.write_text(json.dumps({**made_from(plan), "results": results}, indent=1) + "\n", encoding="utf-8")


def whole(folder: Path, plan: Plan) -> bool:
    """Whether the folder holds the finished run of this plan, and nothing has changed since."""
    page = _page(folder)
    if page is None or {key: page.get(key) for key in ("version", "plan", "files")} != made_from(plan):
        return False
    results: Mapping[str, str] = page.get("results", {})
    return bool(results) and all(_print(folder / name) == found for name, found in results.items())


def clear(folder: Path, plan: Plan, maps: str, study: str) -> None:
    """Remove the maps and the study of a run that another version made, or that was made from other files."""
    page = _page(folder)
    stale = page is not None and {key: page.get(key) for key in ("version", "plan", "files")} != made_from(plan)
    if stale or _version(folder / study / STUDIED) not in ("", heatproof.__version__):
        (folder / DONE).unlink(missing_ok=True)
        (folder / maps).unlink(missing_ok=True)
        shutil.rmtree(folder / study, ignore_errors=True)


def measured(path: Path) -> Measured:
    """The numbers in a run's performance.json.

    Raises: FileError where it is damaged.
    """
    found = numbers(path)
    return Measured(found, int(json.loads(path.read_text(encoding="utf-8"))["samples"]))


def numbers(path: Path) -> dict[str, Estimate]:
    """The classifier's numbers in a performance.json; none where there is none.

    Raises: FileError where it is damaged.
    """
    if not path.exists():
        return {}
    try:
        page = json.loads(path.read_text(encoding="utf-8"))["numbers"]
        return {str(key): _estimate(found) for key, found in page.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FileError(f"{str(path)!r} is damaged; evaluate the model again") from None


def _estimate(found: Mapping[str, Any]) -> Estimate:
    """An estimate from JSON, where NaN is null."""
    mean, low, high = (math.nan if found[key] is None else float(found[key]) for key in ("mean", "low", "high"))
    return Estimate(mean, low, high, int(found["n"]), int(found["undefined"]))


def _page(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _version(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["identity"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _state(path: Path) -> str:
    """A fingerprint of the names, sizes and times of a file or of all files below a folder."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            found.update(f"{file.relative_to(path)}:{_print(file)}\n".encode())
    return found.hexdigest()[:16]


def _print(path: Path) -> str:
    if not path.is_file():
        return ""
    found = path.stat()
    return f"{found.st_size}:{found.st_mtime_ns}"
