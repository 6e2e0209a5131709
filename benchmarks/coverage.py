"""Do intervals contain the mean as often as they say, and do tests call equal methods different as seldom as they say?

    python benchmarks/coverage.py [simulated] [--write] [--out FOLDER]

Samples of several sizes are drawn from distributions of known mean, from methods whose scores are equal in
distribution, and from the scores of a whole test set of MNIST-1D (this part is left out of `simulated`). Exits with 1
where a bound is missed. With ``--write`` the tables replace those of docs/verdict-coverage.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from heatproof import stats
from heatproof.records import Estimate

SIZES = (10, 20, 50, 200)
DRAWS = 6000  # samples of each size
NULLS = 1000  # tables of methods without a difference
LEAST, MOST = 0.93, 0.97  # of intervals that contain the mean
ERROR = 0.05  # most of the comparisons of equal methods that find a difference
NOISE = 2.0  # standard errors of a share by which a simulation itself may miss a bound
UNIT = (0.0, 1.0)
UPPER = np.triu_indices(3, 1)
PAGE = Path(__file__).parents[1] / "docs" / "verdict-coverage.md"
JUDGES = (
    "relevance-mass", "roc-auc", "pointing-game", "insertion:steps=10", "deletion:steps=10", "average-drop",
    "faithfulness-correlation:runs=50",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A distribution of scores.

    Attributes:
        draw: values of a shape from a generator; mean: theirs.
        bounds: the range that is known of the scores. binary: 0 and 1, whose interval is that of a share.
        symmetric: symmetric or moderately skewed and continuous, so that intervals must not be too wide either.
        extreme: so skewed that no bound is set.
    """

    draw: Callable[[np.random.Generator, tuple[int, int]], Float[np.ndarray, "n m"]]
    mean: float
    bounds: tuple[float, float] | None = None
    binary: bool = False
    symmetric: bool = False
    extreme: bool = False


def zeros(share: float, scale: float, g: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Zeros but for a share of values uniform up to ``scale``."""
    return np.asarray((g.random(shape) < share) * g.random(shape) * scale)


def lognormal(sigma: float, *, extreme: bool = False) -> Shape:
    """Log-normal values of unit median."""
    return Shape(lambda g, s: g.lognormal(sigma=sigma, size=s), float(np.exp(sigma**2 / 2)), extreme=extreme)


def beta(a: float, b: float, *, known: bool = True, symmetric: bool = False) -> Shape:
    """Beta-distributed values whose range is known, or is not."""
    return Shape(lambda g, s: g.beta(a, b, s), a / (a + b), UNIT if known else None, symmetric=symmetric)


def bernoulli(p: float) -> Shape:
    """Scores of 0 and 1."""
    return Shape(lambda g, s: (g.random(s) < p).astype(float), p, binary=True)


SHAPES: Mapping[str, Shape] = {
    "normal": Shape(lambda g, s: g.normal(size=s), 0.0, symmetric=True),
    "uniform": Shape(lambda g, s: g.random(s), 0.5, symmetric=True),
    "Laplace": Shape(lambda g, s: g.laplace(size=s), 0.0, symmetric=True),
    "Student's t, 3 degrees of freedom": Shape(lambda g, s: g.standard_t(3, s), 0.0, symmetric=True),
    "exponential": Shape(lambda g, s: g.exponential(size=s), 1.0),
    "log-normal, sigma 0.5": lognormal(0.5),
    "log-normal, sigma 0.75": lognormal(0.75),
    "log-normal, sigma 1": lognormal(1.0, extreme=True),
    "log-normal, sigma 1.5": lognormal(1.5, extreme=True),
    "50 % zeros, else exponential": Shape(lambda g, s: (g.random(s) < 0.5) * g.exponential(size=s), 0.5),
    "80 % zeros, else uniform": Shape(lambda g, s: zeros(0.2, 1.0, g, s), 0.1, extreme=True),
    "Beta(0.3, 3)": beta(0.3, 3, known=False),
    "uniform in [0, 1]": Shape(lambda g, s: g.random(s), 0.5, UNIT, symmetric=True),
    "Beta(8, 2) in [0, 1]": beta(8, 2, symmetric=True),
    "normal in [0, 1], deviation 0.05": Shape(lambda g, s: g.normal(0.5, 0.05, s), 0.5, UNIT, symmetric=True),
    "Beta(0.3, 3) in [0, 1]": beta(0.3, 3),
    "Beta(0.05, 1) in [0, 1]": beta(0.05, 1),
    "50 % zeros, else uniform, in [0, 1]": Shape(lambda g, s: zeros(0.5, 1.0, g, s), 0.25, UNIT),
    "80 % zeros, else uniform, in [0, 1]": Shape(lambda g, s: zeros(0.2, 1.0, g, s), 0.1, UNIT),
    "90 % zeros, else uniform, in [0, 1]": Shape(lambda g, s: zeros(0.1, 1.0, g, s), 0.05, UNIT),
    "90 % zeros, else uniform up to 0.1, in [0, 1]": Shape(lambda g, s: zeros(0.1, 0.1, g, s), 0.005, UNIT),
    "30 % ones, else uniform, in [0, 1]": Shape(lambda g, s: np.where(g.random(s) < 0.3, 1.0, g.random(s)), 0.65, UNIT),
    "0 or 1, p = 0.02": bernoulli(0.02),
    "0 or 1, p = 0.05": bernoulli(0.05),
    "0 or 1, p = 0.3": bernoulli(0.3),
    "0 or 1, p = 0.9": bernoulli(0.9),
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """How samples come in groups, which differ by an effect of standard deviation 1 beside one of 1 within.

    Attributes:
        groups: how many; sizes: samples in each, from a generator.
    """

    groups: int
    sizes: Callable[[np.random.Generator, int], np.ndarray]

    def draw(self, g: np.random.Generator, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Values (N, M) of mean 0 and the group of each."""
        of = np.repeat(np.arange(self.groups), self.sizes(g, self.groups))
        return g.normal(size=(self.groups, columns))[of] + g.normal(size=(len(of), columns)), of


LAYOUTS: Mapping[str, Layout] = {
    "groups of 10": Layout(0, lambda _, k: np.full(k, 10)),
    "groups of 1 to 40": Layout(0, lambda g, k: np.minimum(1 + g.geometric(0.1, k), 40)),
}


def intervals(values: Float[np.ndarray, "n m"], shape: Shape, groups: np.ndarray | None = None) -> Sequence[Estimate]:
    """The interval of each column as a study computes it."""
    if shape.binary:  # the same few counts again and again
        ones = values.sum(axis=0).astype(int)
        of = {k: stats.proportion(np.arange(len(values)) < k) for k in set(ones.tolist())}
        return [of[k] for k in ones.tolist()]
    return stats.estimates(values, bounds=shape.bounds, groups=groups)


def covered(estimates: Sequence[Estimate], mean: float) -> float:
    """The share of intervals that contain the mean, but for rounding."""
    return float(np.mean([e.low - 1e-12 <= mean <= e.high + 1e-12 for e in estimates]))


def simulated() -> tuple[list[str], bool]:
    """How often intervals from distributions of known mean contain it."""
    lines, held = (
        ["| scores | " + " | ".join(f"n = {n}" for n in SIZES) + " | |", "|---" * (len(SIZES) + 2) + "|"],
        True,
    )
    for name, shape in SHAPES.items():
        shares = []
        for n in SIZES:
            values = shape.draw(np.random.default_rng(n), (n, DRAWS))
            shares.append(covered(intervals(values, shape), shape.mean))
        slack = NOISE * np.sqrt(0.95 * 0.05 / DRAWS)
        most = MOST if shape.symmetric else 1.0
        kept = shape.extreme or all(LEAST - slack <= share <= most + slack for share in shares)
        held &= kept
        remark = "" if kept else "missed"
        bound = "no bound" if shape.extreme else f"{LEAST:.2f} to {most:.2f}"
        lines.append(f"| {name} | {' | '.join(f'{share:.3f}' for share in shares)} | {bound} {remark}|")
    return lines, held


def clustered() -> tuple[list[str], bool]:
    """The same for samples in groups, with and without saying so."""
    lines, held = ["| samples | groups | contain the mean | as if independent |", "|---|---|---|---|"], True
    for name, layout in LAYOUTS.items():
        for k in (5, 10, 20, 50):
            g, shares, naive = np.random.default_rng(k), [], []
            for _ in range(60):
                values, of = Layout(k, layout.sizes).draw(g, DRAWS // 60)
                shares.append(covered(stats.estimates(values, groups=of), 0.0))
                naive.append(covered(stats.estimates(values), 0.0))
            share = float(np.mean(shares))
            held &= share >= LEAST
            lines.append(f"| {name} | {k} | {share:.3f} | {np.mean(naive):.3f} |")
    return lines, held


EQUALS: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda g, s: g.normal(size=s),
    "log-normal, sigma 1": lambda g, s: g.lognormal(size=s),
    "80 % zeros, else uniform": lambda g, s: (g.random(s) < 0.2) * g.random(s),
    "0 or 1, p = 0.02": lambda g, s: (g.random(s) < 0.02).astype(float),
    "0 or 1, p = 0.05": lambda g, s: (g.random(s) < 0.05).astype(float),
    "0 or 1, p = 0.5": lambda g, s: (g.random(s) < 0.5).astype(float),
    "0, 0.5 or 1": lambda g, s: g.integers(0, 3, s) / 2.0,
}


def naming() -> tuple[list[str], bool]:
    """How often methods whose scores are equal in distribution are called different."""
    lines = ["| scores | n | interval of the difference | paired test | any of three, corrected |", "|---" * 5 + "|"]
    held = True
    slack = NOISE * np.sqrt(ERROR * (1 - ERROR) / NULLS)
    cases = [(name, str(n), n, None) for name in EQUALS for n in SIZES]
    cases += [(f"normal, {name}", f"{k} groups", k, layout) for name, layout in LAYOUTS.items() for k in (10, 20, 50)]
    for name, size, n, layout in cases:
        g = np.random.default_rng(n)
        of = None if layout is None else np.repeat(np.arange(n), layout.sizes(g, n))
        if layout is None or of is None:
            tables = EQUALS[name](g, (NULLS, n, 3))
        else:
            tables = g.normal(size=(NULLS, n, 3))[:, of] + g.normal(size=(NULLS, len(of), 3))
        apart = stats.estimates((tables[..., 0] - tables[..., 1]).T, groups=of)
        rates = [float(np.mean([e.low > 0 or e.high < 0 for e in apart]))]
        p = [stats.pairwise(table, correction="none", groups=of).p for table in tables]
        rates.append(float(np.mean([each[0, 1] < ERROR for each in p])))
        rates.append(float(np.mean([(stats.holm(each[UPPER]) < ERROR).any() for each in p])))
        held &= max(rates) <= ERROR + slack
        lines.append(f"| {name} | {size} | {' | '.join(f'{rate:.3f}' for rate in rates)} |")
    return lines, held


def scores(folder: Path) -> tuple[list[str], bool]:
    """How often intervals from a part of a test set contain its mean."""
    import heatproof as hp
    from heatproof import StudyOptions
    from heatproof.training import Recipe

    splits = hp.data.load("mnist1d:seed=0")
    recipe = Recipe("trial", 15, 64, 0.01, schedule="one-cycle", weight_decay=0.01, shift=3)
    model = hp.train(splits, net="mnist1d-cnn", recipe=recipe, seed=0, quiet=True)
    options = StudyOptions(controls=False)
    results = hp.study(model, splits.test, ["grad-cam", "saliency"], JUDGES, options=options, out=folder)
    sizes = " | ".join(f"n = {n}" for n in SIZES)
    lines = [f"| method | metric | mean | skewness | {sizes} |", "|---" * (4 + len(SIZES)) + "|"]
    everything: list[float] = []
    for (name, metric), values in results.scores.items():
        defined = values[np.isfinite(values)]
        skew = float(((defined - defined.mean()) ** 3).mean() / max(float(defined.std()) ** 3, 1e-300))
        binary = bool(results.fact(metric, "binary")) and bool(np.isin(defined, UNIT).all())
        low, high = results.fact(metric, "range")
        known = (low, high) if None not in (low, high) else None
        shape = Shape(lambda g, s, v=defined: v[g.integers(0, len(v), s)], float(defined.mean()), known, binary)
        drawn = [shape.draw(np.random.default_rng(n), (n, DRAWS // 2)) for n in SIZES]
        shares = [covered(intervals(part, shape), shape.mean) for part in drawn]
        everything += shares
        cells = " | ".join(f"{share:.3f}" for share in shares)
        lines.append(f"| {name} | {metric} | {defined.mean():.3f} | {skew:.1f} | {cells} |")
    inside = sum(share >= LEAST for share in everything)
    lines.append(
        f"\n{inside} of {len(everything)} shares are at least {LEAST:.2f}. Their mean is {np.mean(everything):.3f}."
    )
    return lines, inside == len(everything)


INTRODUCTION = """# Coverage of the intervals

How intervals are computed is described in [verdict.md](verdict.md). Each number is a share of simulated samples."""
CHAPTERS: Mapping[str, str] = {
    "Distributions of known mean": f"""Shares of {DRAWS:,} samples whose 95 % interval contains the mean. "In [0, 1]"
means that the range of the scores is known, as a metric declares it. Bounds hold up to two standard errors of the
simulation. No bound is set where a sample of 10 often lacks the values that decide the mean.""",
    "Samples in groups": """Values have equal variance between and within groups, such as patients or slides. The last
column shows what happens when the groups are not stated.""",
    "Equal methods": f"""Methods whose scores are equal in distribution: shares of {NULLS:,} tables in which they are
called different at 5 %, by the interval of the mean difference of two methods, by the signed-rank test of two, and by
any of the three tests of three methods (Holm). At most {ERROR:.2f} is required, up to two standard errors.""",
    "Scores of a test set": f"""{DRAWS // 2:,} samples of each size were drawn from the scores of 1,000 test signals of
MNIST-1D. Shares of samples whose 95 % interval contains the mean of all signals.""",
}  # fmt: skip


def main() -> int:
    """Print the tables; 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["all", "simulated"], default="all")
    parser.add_argument("--out", type=Path, help="folder of the study, from which an interrupted one continues")
    parser.add_argument("--write", action="store_true", help="write the tables into docs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        makers = [simulated, clustered, naming, lambda: scores(arguments.out or Path(place) / "study")]
        parts, held = [INTRODUCTION], True
        for (title, text), maker in zip(
            CHAPTERS.items(), makers[: 3 if arguments.what == "simulated" else 4], strict=False
        ):
            lines, kept = maker()
            held &= kept
            parts.append(f"## {title}\n\n{text}\n\n" + "\n".join(lines))
            print(parts[-1], flush=True)
    if arguments.write:
        PAGE.write_text(
            "<!-- python benchmarks/coverage.py --write -->\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8"
        )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
