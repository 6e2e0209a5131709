"""Results on disk: a folder of plain arrays and tables, whose manifest ``results.json`` is written last."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from heatproof.errors import FileError
from heatproof.files import writing
from heatproof.records import Skip
from heatproof.results.evidence import Evidence
from heatproof.results.record import Band, Gallery, Results

FORMAT = 4
FILLS = "fills"
MANIFEST, ARRAYS, CSV, PARQUET = "results.json", "results.npz", "scores.csv", "scores.parquet"


def save(results: Results, folder: str | os.PathLike[str]) -> Path:
    """The folder, now holding the results; each file appears whole or not at all, the manifest last.

    Raises: FileError where the folder cannot be written.
    """
    folder = Path(folder)
    cells, curves = list(results.scores), list(results.curves)
    arrays = {f"score.{i}": results.scores[cell] for i, cell in enumerate(cells)}
    for i, cell in enumerate(curves):
        arrays[f"at.{i}"], arrays[f"curve.{i}"] = results.curves[cell].at, results.curves[cell].values
    arrays |= {"y": results.y, "predictions": results.predictions, "probability": results.probability}
    arrays |= {} if results.explained is None else {"explained": results.explained}
    gallery = results.gallery
    if gallery is not None:
        arrays |= {"shown": gallery.index, "shown.x": gallery.x}
        arrays |= {f"shown.{name}": maps for name, maps in gallery.maps.items()}
        if gallery.mask is not None:
            arrays["shown.mask"] = gallery.mask
    arrays |= {} if results.groups is None else {"groups": results.groups}
    own = list(results.own_controls)
    arrays |= {f"own.{i}": results.own_controls[key] for i, key in enumerate(own)}
    if results.evidence is not None:
        arrays |= {f"evidence.{field.name}": getattr(results.evidence, field.name) for field in fields(Evidence)}
    with writing(folder / ARRAYS) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    frame = results.to_frame()
    with writing(folder / CSV) as part:
        frame.to_csv(part, index=False)
    with writing(folder / PARQUET) as part:
        frame.to_parquet(part, index=False)
    page = {
        "heatproof": "results",
        "format": FORMAT,
        "samples": len(results),
        "methods": results.methods,
        "controls": results.controls,
        "metrics": results.metrics,
        "task": results.task,
        "classes": results.classes,
        "ids": results.ids,
        "cells": cells,
        "curves": curves,
        "own_controls": own,
        "skips": [[s.method, s.metric, s.reason] for s in results.skips],
        "shown": None if gallery is None else list(gallery.maps),
        "about": results.about,
    }
    with writing(folder / MANIFEST) as part:
        part.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")
    return folder


def folders(folder: Path) -> list[Path]:
    """The folders of a study with several fills, in their order: that with the first fill is the study's own."""
    others = (folder / FILLS).iterdir() if (folder / FILLS).is_dir() else ()
    return [folder, *sorted(others, key=lambda path: int(path.name.partition("-")[0]))]


def load_all(folder: str | os.PathLike[str]) -> tuple[Results, ...]:
    """The results of a study with each of its fills, the first in front.

    Raises: FileError where some are missing, truncated, foreign or of a newer format.
    """
    return tuple(load(path) for path in folders(Path(folder)))


def load(folder: str | os.PathLike[str]) -> Results:
    """The results in a folder that `save` wrote.

    Raises: FileError where they are missing, truncated, foreign or of a newer format.
    """
    folder = Path(folder)
    page = _page(folder / MANIFEST)
    try:
        with (folder / ARRAYS).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _results(page, arrays)
    except FileNotFoundError:
        raise FileError(f"{str(folder / ARRAYS)!r} is missing; the study was not finished") from None
    except Exception as error:  # zip and npy readers raise many kinds for a truncated or foreign file
        raise FileError(f"{str(folder)!r} is damaged ({type(error).__name__}: {error})") from None


def _page(path: Path) -> dict[str, Any]:
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{str(path)!r} is missing; no finished study lies there") from None
    except (OSError, ValueError):
        raise FileError(f"{str(path)!r} is truncated or not JSON") from None
    if not isinstance(page, dict) or page.get("heatproof") != "results":
        raise FileError(f"{str(path)!r} does not belong to a heatproof study")
    if page.get("format") != FORMAT:
        older = isinstance(page.get("format"), int) and page["format"] < FORMAT
        advice = "run the study again" if older else "update heatproof"
        raise FileError(f"{str(path)!r} has format {page.get('format')!r}, this version reads {FORMAT}; {advice}")
    return page


def _results(page: dict[str, Any], arrays: dict[str, np.ndarray]) -> Results:
    gallery = None
    if page["shown"] is not None:
        maps = {name: arrays[f"shown.{name}"] for name in page["shown"]}
        gallery = Gallery(arrays["shown"], arrays["shown.x"], maps, arrays.get("shown.mask"))
    evidence = {f.name: arrays[f"evidence.{f.name}"] for f in fields(Evidence) if f"evidence.{f.name}" in arrays}
    return Results(
        scores={(m, k): arrays[f"score.{i}"] for i, (m, k) in enumerate(page["cells"])},
        methods=tuple(page["methods"]),
        controls=tuple(page["controls"]),
        metrics=tuple(page["metrics"]),
        y=arrays["y"],
        predictions=arrays["predictions"],
        probability=arrays["probability"],
        classes=tuple(page["classes"]),
        ids=tuple(page["ids"]),
        curves={(m, k): Band(arrays[f"at.{i}"], arrays[f"curve.{i}"]) for i, (m, k) in enumerate(page["curves"])},
        skips=tuple(Skip(*item) for item in page["skips"]),
        gallery=gallery,
        about=page["about"],
        own_controls={tuple(key): arrays[f"own.{i}"] for i, key in enumerate(page["own_controls"])},
        evidence=Evidence(**evidence) if evidence else None,
        task=page["task"],
        explained=arrays.get("explained"),
        groups=arrays.get("groups"),
    )
