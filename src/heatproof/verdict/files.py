"""The verdict on disk: ``verdict.json``, as data and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heatproof.files import writing
from heatproof.verdict.judgement import Judgement

NAME, FORMAT = "verdict.json", 2


def save(judgement: Judgement, folder: Path) -> Path:
    """The path of ``verdict.json`` in the folder, now holding the decision, the checks and every finding.

    Raises: FileError where it cannot be written.
    """
    verdict = judgement.verdict
    page = {
        "heatproof": "verdict",
        "format": FORMAT,
        "kind": verdict.kind,
        "trusted": verdict.trusted,
        "where": verdict.where,
        "how_much": verdict.how_much,
        "samples_needed": verdict.samples_needed,
        "smallest_difference": verdict.decision.delta,
        "text": verdict.text,
        "methods": [asdict(check) for check in verdict.methods],
        "decision": asdict(verdict.decision),
        "findings": [
            {**asdict(finding), "text": statement.text}
            for statement in judgement.statements
            for finding in statement.findings
        ],
        "questions": judgement.questions,
        "agreement": judgement.agreement,
        "fills": [study.fill for study in judgement.studies],
        "samples": len(judgement.results),
        "level": judgement.results.level,
    }
    path = folder / NAME
    with writing(path) as part:
        part.write_text(json.dumps(_plain(page), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    """The value for JSON, in which undefined numbers are null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
