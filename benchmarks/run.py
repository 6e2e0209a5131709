"""How long a whole run takes, in a process of its own, and whether a second one with the same seed gives equal scores.

    python benchmarks/run.py [options of heatproof run]

Prints the seconds (the bound is 90 on two cores) and the largest difference between the scores of the two runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

BOUND = 90.0
COMMAND = [sys.executable, "-c", "import sys; from heatproof.cli import main; sys.exit(main())", "run", "--quiet"]


def main(options: list[str]) -> int:
    """Print the table; 1 where the bound is missed or the scores differ."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, scores = [], []
        for name in ("first", "second"):
            start = time.perf_counter()
            subprocess.run([*COMMAND, *options, "--out", f"{folder}/{name}"], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
            scores.append(pd.read_parquet(Path(folder, name, "scores.parquet")))
    same = scores[0].equals(scores[1])
    gap = (scores[0]["value"] - scores[1]["value"]).abs().max()
    print("| what | value | bound |\n| --- | ---: | ---: |")
    print(f"| `heatproof run`, first, seconds | {seconds[0]:.1f} | {BOUND:.0f} |")
    print(f"| `heatproof run`, second, seconds | {seconds[1]:.1f} | {BOUND:.0f} |")
    print(f"| scores | {len(scores[0]):,} | |")
    print(f"| largest difference between the two runs' scores | {gap:g} | 0 |")
    return int(not same or max(seconds) > BOUND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
