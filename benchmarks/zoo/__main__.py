"""Every network of the zoo, explained and judged.

    python -m benchmarks.zoo                          all that have no result yet, into benchmarks/zoo.jsonl
    python -m benchmarks.zoo --library timm --only 'vit.*'
    python -m benchmarks.zoo --write                  docs/zoo.md from the results

Needs `pip install heatproof[zoo]`; a library that is missing is said and left out. Weights are random. Each network
runs in a process of its own and within its time; results are kept one line each, so that a stopped run continues.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from benchmarks.zoo import page
from benchmarks.zoo.entries import Entry
from benchmarks.zoo.judge import judged

RESULTS = Path(__file__).parents[1] / "zoo.jsonl"
BUSY = 8  # times the processor time that a network may take on the wall, where others use the machine
LIBRARIES = {
    "torchvision": ("torchvision",), "timm": ("timm",), "signals": (), "braindecode": ("braindecode",),
    "transformers": ("transformers",), "monai": ("monai",), "keras": ("keras", "h5py"),
}  # fmt: skip


def entries(library: str) -> list[Entry]:
    """The table of one library."""
    table = importlib.import_module(f"benchmarks.zoo.table_{library}")
    return table.entries() if hasattr(table, "entries") else table.ENTRIES


def run(entry: Entry) -> dict[str, Any]:
    """The record of one network, judged in a process of its own."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(entry, theirs))
    process.start()
    theirs.close()
    record: dict[str, Any] = {"key": entry.key, "library": entry.library, "family": entry.family, "name": entry.name,
                              "methods": {}, "outcome": "broken"}  # fmt: skip
    try:
        if mine.poll(BUSY * entry.seconds):
            return mine.recv()
        record["reasons"] = [f"longer than {BUSY * entry.seconds} s"]
    except EOFError:
        process.join()
        late = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        record["reasons"] = [
            f"longer than {entry.seconds} s of processor time" if late else f"the process ended with {process.exitcode}"
        ]
    finally:
        if process.is_alive():
            process.join(5)
        if process.is_alive():
            process.kill()
        process.join()
    return record


def _work(entry: Entry, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (entry.seconds, entry.seconds))
    torch.set_num_threads(1)
    pipe.send(judged(entry))
    pipe.close()


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """The records in a file by key, the last of each."""
    if not path.exists():
        return {}
    records = (json.loads(line) for line in path.read_text().splitlines() if line.strip())
    return {record["key"]: record for record in records}


def listed(libraries: Iterable[str], say: Callable[[str], None] = print) -> list[Entry]:
    """The tables of the libraries that are installed."""
    together: list[Entry] = []
    for library in libraries:
        try:
            for module in LIBRARIES[library]:
                importlib.import_module(module)  # before the processes fork, so that it is paid once
            together += entries(library)
        except ModuleNotFoundError as error:
            say(f"{library}: left out, {error}")
    return together


def main() -> int:
    """Run what is asked for, say the numbers, write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description="every network of the zoo, judged")
    parser.add_argument("--library", nargs="*", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--only", default="", help="a regular expression; networks whose name contains it")
    parser.add_argument("--redo", action="store_true", help="networks with a result too")
    parser.add_argument("--failed", action="store_true", help="networks again whose result is not right")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help="write docs/zoo.md")
    parser.add_argument("--list", action="store_true", help="only name the networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = listed(options.library)
    chosen = [e for e in every if re.search(options.only, e.name)]
    if options.list:
        print("\n".join(f"{e.key}  {e.family}  {e.shape}  {e.layers}" for e in chosen))
        return 0
    results = kept(options.results)
    if not options.redo:
        done = {k for k, r in results.items() if not options.failed or (r["outcome"] == "right" and r.get("as_table"))}
        chosen = [e for e in chosen if e.key not in done]
    start = time.perf_counter()
    with options.results.open("a") as file:
        for number, entry in enumerate(chosen, start=1):
            record = run(entry)
            results[entry.key] = record
            file.write(json.dumps(record) + "\n")
            file.flush()
            print(page.line(record), f"[{number}/{len(chosen)}, {time.perf_counter() - start:.0f} s]", flush=True)
    records = [results[e.key] for e in every if e.key in results]
    print(page.numbers(records))
    if options.write:
        page.write(records)
    return 0 if page.passed(records) else 1


if __name__ == "__main__":
    sys.exit(main())
