"""How long `import heatproof` takes once torch is imported, and how long `heatproof --help` takes; medians.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

RUNS = 5
NAMES = "Probe, Samples, data, evaluate, explain, load, mask, score"
TIMED = "import time, torch; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def importing(statement: str) -> float:
    """Seconds of a statement in a fresh interpreter that has imported torch."""
    command = [sys.executable, "-c", TIMED.format(statement)]
    return median(lambda: float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def running(*arguments: str) -> float:
    """Wall-clock seconds of a fresh interpreter."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return median(once)


def median(once: Callable[[], float]) -> float:
    """The median of some runs, after one that warms the disk's cache."""
    return statistics.median([once() for _ in range(RUNS + 1)][1:])


def main() -> int:
    """Print the table; 1 where a bound is missed."""
    rows = [
        ("import heatproof", importing("import heatproof"), 1.5),
        (f"from heatproof import {NAMES}", importing(f"from heatproof import {NAMES}"), 1.5),
        ("heatproof --help", running("-c", "import sys, heatproof.cli as cli; sys.exit(cli.main(['--help']))"), 1.0),
    ]
    print("| what | seconds | bound |\n| --- | ---: | ---: |")
    for what, took, bound in rows:
        print(f"| `{what}`{' after torch' if 'import' in what else ''} | {took:.2f} | {bound:.1f} |")
    return int(any(took > bound for _, took, bound in rows))


if __name__ == "__main__":
    sys.exit(main())
