"""How often the verdict is right: networks trained on planted tasks, and two truths beside each verdict.

    python -m benchmarks.bed trials [--design] [--seeds 4] [--tasks lead,annulus] [--part 0/2] [--write]
    python -m benchmarks.bed read fakes|twins|everywhere|cost       from the trials in the folder
    python -m benchmarks.bed measure irrelevant|temperature|power|null|passes [--on lead:0,annulus:1]
    python -m benchmarks.bed tissue [--path FOLDER]                 mosaics of tiles, with the shipped network

The folder (--out) keeps one file a trial, so that a stopped bench continues; --part K/N takes every N-th trial, so
that several processes share the work. Exits with 1 where a bound is missed. Tasks and seeds of the design are never
reported.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from benchmarks.bed import image_tasks, page, signal_tasks, tissue, volume_tasks  # noqa: F401
from benchmarks.bed.properties import MEASURED, SIZES, grounds
from benchmarks.bed.tasks import TASKS, listed, seeds
from benchmarks.bed.trials import Record, kept, trial

ON = "lead:0,coincidence:2,large:1,stain:2,lesion:0"


def trials(folder: Path, *, design: bool, names: list[str], count: int, part: tuple[int, int]) -> list[Record]:
    """The records of the trials, seed by seed; made where they are missing."""
    chosen = [one for one in listed(design=design) if not names or one.name in names]
    jobs = [(one, seeds(one, count)[k]) for k in range(count) for one in chosen]
    records = []
    for one, seed in jobs[part[0] :: part[1]]:
        record = kept(folder / f"{one.name}-{seed}.json", functools.partial(trial, one, seed))
        print(f"{one.name} {seed}: {record.get('overall', 'dropped')}", file=sys.stderr, flush=True)
        records.append(record)
    return records


def main() -> int:
    """Run one command and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["trials", "read", "measure", "tissue"])
    parser.add_argument("what", nargs="?", choices=[*page.READ, *MEASURED])
    parser.add_argument("--out", type=Path, default=Path("bed-trials"), help="folder of finished trials")
    parser.add_argument("--design", action="store_true", help="the tasks and seeds that the rule is developed on")
    parser.add_argument("--tasks", default="", help="tasks with commas between them")
    parser.add_argument("--seeds", type=int, default=4, help="how many seeds a task")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th trial, from the K-th on")
    parser.add_argument("--on", default=ON, help="TASK:SEED of the networks that are measured")
    parser.add_argument("--path", type=Path, default=tissue.HMT, help="folder of tissue tiles")
    parser.add_argument("--write", action="store_true", help="write the table into docs")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    first, parts = map(int, asked.part.split("/"))
    names = [name for name in asked.tasks.split(",") if name]
    if unknown := set(names) - set(TASKS):
        parser.error(f"no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    if asked.command == "tissue":
        text, held = tissue.tissue(asked.path)
    elif asked.command == "measure":
        if asked.what not in MEASURED:
            parser.error(f"measure: name one of {', '.join(MEASURED)}")
        on = [(name, int(seed)) for name, seed in (item.split(":") for item in asked.on.split(","))]
        text, held = MEASURED[asked.what](grounds(on, samples=SIZES[-1] if asked.what == "power" else None))
    else:
        if asked.command == "read" and asked.what not in page.READ:
            parser.error(f"read: name one of {', '.join(page.READ)}")
        records = trials(asked.out, design=asked.design, names=names, count=asked.seeds, part=(first, parts))
        text, held = page.summary(records) if asked.command == "trials" else page.READ[asked.what](records)
    print(text)
    if asked.write and asked.command == "trials":
        page.write(text)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
