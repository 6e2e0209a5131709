"""A large study: 20 methods and 4 controls, judged by 25 metrics on 200 test signals, tests and report included.

    python benchmarks/study.py [--out FOLDER]

Prints the time, the process's largest memory and what took longest; exits with 1 above ten minutes or 2 GiB.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import heatproof as hp

METHODS = (
    "grad-cam", "grad-cam-plus-plus", "ablation-cam", "layer-cam", "xgrad-cam", "hires-cam", "eigen-cam",
    "eigen-grad-cam", "elementwise-grad-cam", "score-cam", "shapley-cam", "recipro-cam", "finer-cam", "fem",
    "kpca-cam", "full-grad", "saliency", "input-x-gradient", "occlusion", "rise:masks=100",
)  # fmt: skip
METRICS = (
    "average-drop:keep=0.3", "increase-in-confidence:keep=0.3", "average-gain:keep=0.3", "deletion", "insertion",
    "insertion-minus-deletion", "aopc", "comprehensiveness", "sufficiency", "road", "faithfulness-correlation",
    "mu-fidelity", "pointing-game", "relevance-mass", "relevance-rank", "roc-auc", "window-localisation",
    "window-correlation", "energy-pointing-game", "gini-sparseness", "entropy", "average-sensitivity:runs=3",
    "max-sensitivity:runs=3", "random-logit", "parameter-randomisation:stages=2",
)  # fmt: skip
MINUTES, GIB = 10, 2


def main() -> int:
    """Run, report, and say what it took."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path)
    out = asked.parse_args().out or Path(tempfile.mkdtemp())
    digits = hp.data.mnist1d()
    model = hp.train(digits, quiet=True)
    start = time.perf_counter()
    results = hp.study(model, digits.test.take(range(200)), METHODS, METRICS, out=out / "study")
    judged = time.perf_counter() - start
    print(results.verdict().text)
    results.report(out / "report.html")
    whole = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = f"{len(results.methods)} methods x {len(results.metrics)} metrics x {len(results)} signals"
    print(f"{size}: {judged:.0f} s; with tests and report {whole:.0f} s (at most {60 * MINUTES}); {memory:.2f} GiB at "
          f"most ({GIB}); {len(results.skips)} cells skipped")  # fmt: skip
    for kind in ("methods", "metrics"):
        taken = sorted(results.about["seconds"][kind].items(), key=lambda item: -item[1])[:5]
        print(f"longest {kind}: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in taken))
    return int(whole > 60 * MINUTES or memory > GIB)


if __name__ == "__main__":
    sys.exit(main())
