"""The results as text: a line a network, the numbers of all, and the page docs/zoo.md."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
EXPLAINED = ("grad-cam", "hires-cam", "saliency", "occlusion")
PACKAGES = ("heatproof", "torch", "torchvision", "timm", "transformers", "monai", "keras", "braindecode")
Record = dict[str, Any]
ABOUT = """\
Written by `python -m benchmarks.zoo --write`; do not edit. Every network has random weights, made fit to be
judged: batch norms hold the statistics of the input, no gain is zero, the logits deviate by about 2. Each is
explained with no option. A map is right if it differs by at most 0.1 % of its scale from a loop in float64,
with plain hooks on the layer that heatproof chose and a layout written by hand. Where arithmetic in float32
alone moves a map by more than 0.01 % of its scale, ten times that is allowed. The layer is right if the table
written by hand names it: the last one with positions whose gradient is not zero. The table is checked too: the
input is disturbed at one place, and the table's layer, read by the table's layout, must answer there."""


def line(record: Record) -> str:
    """One network in one line of the terminal."""
    parts = [
        record["key"],
        record["outcome"],
        str(record.get("layer")),
        "" if record.get("as_table") else "OTHER LAYER",
    ]
    parts += record.get("reasons", [])[:4]
    if record.get("table"):
        parts.append(f"TABLE: {record['table']}")
    parts.append(f"{record.get('passes')} passes, {record.get('seconds')} s, {record.get('peak_mib')} MiB")
    return " | ".join(part for part in parts if part)


def bad(record: Record) -> bool:
    """Whether a map or the outputs of the network are wrong."""
    return any(m["outcome"] == "wrong map" for m in record["methods"].values())


def explained(record: Record) -> bool:
    """Whether the four methods that every network is explained by gave a right map with no option."""
    return all(record["methods"].get(name, {}).get("outcome") == "right" for name in EXPLAINED)


def counts(records: Sequence[Record]) -> dict[str, Any]:
    """The numbers of all networks."""
    errors = sum(m["outcome"] == "raw error" for r in records for m in r["methods"].values())
    wrong = sum(m["outcome"] == "wrong map" for r in records for m in r["methods"].values())
    absent = sum(r["outcome"] == "not built" for r in records)
    records = [r for r in records if r["outcome"] != "not built"]
    passes = [r["passes"] for r in records if r.get("passes")]
    number = max(len(records), 1)
    return {
        "networks": len(records),
        "not built by their library": absent,
        "raw errors": errors,
        "wrong maps": wrong,
        "networks with a wrong map": sum(map(bad, records)),
        "not judged": sum(r["outcome"] in ("broken", "not judged") for r in records),
        "explained": sum(map(explained, records)) / number,
        "as the table": sum(bool(r.get("as_table")) for r in records) / number,
        "table doubted": sum("table" in r for r in records),
        "attention missing": sum(bool(r.get("missing")) for r in records),
        "passes": round(statistics.median(passes), 2) if passes else None,
        "passes, worst": max(passes, default=None),
    }


def passed(records: Sequence[Record]) -> bool:
    """Whether the bounds hold: no raw error, no wrong map, 98 % explained, 95 % of the layers as in the table."""
    n = counts(records)
    return (
        n["raw errors"] == n["wrong maps"] == n["not judged"] == 0
        and n["explained"] >= 0.98
        and n["as the table"] >= 0.95
    )


def numbers(records: Sequence[Record]) -> str:
    """The numbers, one a line."""
    lines = []
    for name, value in counts(records).items():
        lines.append(
            f"{name}: {value:.1%}" if isinstance(value, float) and not name.startswith("passes") else f"{name}: {value}"
        )
    return "\n".join(lines)


def _outcome(record: Record) -> str:
    if record["outcome"] in ("right", "refused") and not record.get("reasons"):
        return record["outcome"]
    wrong = [
        reason for reason in record.get("reasons", []) if "refused" not in reason or record["outcome"] == "refused"
    ]
    return "right" if record["outcome"] == "right" else f"{record['outcome']}: {'; '.join(wrong)[:160]}"


def _row(record: Record) -> str:
    methods = record["methods"]
    right = [name for name in (*EXPLAINED, "attention-rollout", "transformer-attribution", "le-grad")
             if methods.get(name, {}).get("outcome") == "right"]  # fmt: skip
    checked = f"{sum(name in EXPLAINED for name in right)}/4"
    attention = len(right) - sum(name in EXPLAINED for name in right)
    layer = f"`{record['layer']}`" if record.get("layer") else ""
    if record.get("layer") and not record.get("as_table"):
        layer += " (table: other)"
    grid = "x".join(map(str, record.get("grid") or []))
    cells = [
        record["family"], record["name"], "x".join(map(str, record.get("shape", []))), layer,
        f"{record.get('layout', '')} {grid}".strip(), checked, f"{attention}/3" if attention else "",
        _outcome(record), "" if record.get("passes") is None else f"{record['passes']:.2f}",
    ]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def text(records: Sequence[Record]) -> str:
    """The page."""
    n = counts(records)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES if _installed(name))
    parts = [
        "# The zoo",
        ABOUT,
        f"Measured with {versions}, Python {platform.python_version()}.",
        "\n".join(["| number | measured | bound |", "| --- | --- | --- |",
                   f"| networks | {n['networks']} | |",
                   f"| not built by their own library | {n['not built by their library']} | |",
                   f"| not judged | {n['not judged']} | 0 |",
                   f"| raw errors | {n['raw errors']} | 0 |",
                   f"| wrong maps | {n['wrong maps']} | 0 |",
                   f"| explained with no option | {n['explained']:.1%} | 98 % |",
                   f"| automatic layer as in the table | {n['as the table']:.1%} | 95 % |",
                   f"| Grad-CAM, forward passes, median (worst) | {n['passes']} ({n['passes, worst']}) | |"]),
    ]  # fmt: skip
    head = ["| family | network | input | layer | layout | maps | attention | outcome | passes |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for library, group in groupby(records, key=lambda r: r["library"]):
        parts += [f"## {library}", "\n".join([*head, *map(_row, group)])]
    return "\n\n".join(parts) + "\n"


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def write(records: Sequence[Record]) -> None:
    """docs/zoo.md."""
    PAGE.write_text(text(records))
