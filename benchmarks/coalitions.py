"""KernelSHAP and LIME on signals of 40 points with 16 segments, beside captum with the same segments and samples.

    python benchmarks/coalitions.py              100 signals; captum explains 20 of them

Needs `pip install heatproof[benchmark]`. Weights are random. Captum gets all samples of a signal at once, its fastest
setting, and 1, its default. Both sides take turns in one process; times are per signal, the least of the rounds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from heatproof.methods import explain
from heatproof.nets import build
from heatproof.segments import segments

SEGMENTS, SAMPLES = 16, 400


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--peer", type=int, default=20, help="signals that captum explains")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import KernelShap, Lime

        torch.manual_seed(0)
        model = build("mnist1d-cnn").eval()
        x = torch.randn(options.signals, 1, 40)
        labels, fill = segments(x, SEGMENTS), x.mean(2, keepdim=True).expand_as(x)

        def captum(kind: type, at_once: int) -> Callable[[], None]:
            def job() -> None:
                for i in range(options.peer):
                    rows = slice(i, i + 1)
                    peer(kind)(x[rows], fill[rows], labels[i][None, None], at_once)

            return job

        def peer(kind: type) -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
            return lambda sample, blank, mask, at_once: kind(model).attribute(
                sample, baselines=blank, target=1, feature_mask=mask, n_samples=SAMPLES, perturbations_per_eval=at_once
            )

        print("| method | heatproof, ms | captum, ms | times | captum one by one, ms |\n|---|---:|---:|---:|---:|")
        for name, kind in (("kernel-shap", KernelShap), ("lime", Lime)):
            jobs = [lambda name=name: explain(model, x, name, target=1), captum(kind, SAMPLES), captum(kind, 1)]
            least = [float("inf")] * 3
            for turn in range(options.rounds):
                for i, job in enumerate(jobs[: 2 if turn else 3]):
                    start = time.perf_counter()
                    job()
                    least[i] = min(least[i], (time.perf_counter() - start) / (options.peer if i else options.signals))
            ours, best, single = (1000 * seconds for seconds in least)
            print(f"| {name} | {ours:.2f} | {best:.1f} | {best / ours:.1f} | {single:.1f} |")


if __name__ == "__main__":
    main()
