"""Statistics against scipy, scikit-posthocs and statsmodels, closed forms, and properties."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heatproof import stats
from heatproof.errors import InputError

FINITE = st.floats(-1e6, 1e6, allow_nan=False, width=32)


# ---------------------------------------------------------------- intervals


def test_estimate_of_symmetric_values_is_students() -> None:
    values = np.array([-3.0, -1.0, 0.0, 1.0, 3.0, 7.0, -7.0]) + 2.0
    low, high = scipy.stats.t.interval(0.9, 6, loc=2.0, scale=values.std(ddof=1) / np.sqrt(7))
    ours = stats.estimate(values, level=0.9)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((2.0, low, high))


def test_the_longer_tail_reaches_further_by_halls_transformation() -> None:
    values = np.arange(50.0) ** 3
    ours, n = stats.estimate(values), 50
    error = values.std(ddof=1) / np.sqrt(n)
    reach = scipy.stats.t.ppf(0.975, n - 1)
    skewness = float(scipy.stats.skew(values, bias=False))
    clear = (skewness / np.sqrt(6 / n)) ** 4
    third = skewness * (1 + (9 / n) ** 2) * clear / (clear + 1) / np.sqrt(n)
    far = (ours.high - ours.mean) / error
    # Hall's cubic of the far end, without its shift, is the deviate of t.
    cubic = -far + third * far**2 / 3 - third**2 * far**3 / 27
    assert cubic == pytest.approx(-reach - third / 6)
    assert ours.mean - ours.low == pytest.approx(reach * error)
    assert far > reach
    mirrored = stats.estimate(-values)
    assert (mirrored.low, mirrored.high) == pytest.approx((-ours.high, -ours.low))


def test_a_closed_range_gives_wilsons_interval_to_ones_and_zeros() -> None:
    values = np.array([1.0] * 10 + [0.0] * 10)
    ours, n, p = stats.estimate(values, bounds=(0, 1)), 20, 0.5
    square = scipy.stats.t.ppf(0.975, n - 1) ** 2 / n
    half = math.sqrt(square * (p * (1 - p) + square / 4))
    ends = [(p + square / 2 + sign * half) / (1 + square) for sign in (-1, 1)]
    assert (ours.low, ours.high) == pytest.approx(tuple(ends))
    scaled = stats.estimate(4 * values - 1, bounds=(-1, 3))
    assert (scaled.low, scaled.high) == pytest.approx((4 * ours.low - 1, 4 * ours.high - 1))


def test_equal_values_at_the_end_of_a_range_leave_room_for_others() -> None:
    zeros = stats.estimate([0.0] * 10, bounds=(0, 1))
    assert zeros.low == 0.0
    assert 0.2 < zeros.high < 0.4
    assert stats.estimate([0.0] * 10, bounds=(0, None)).high == 0.0
    assert stats.estimate([0.1, 0.0, 0.9, 0.0], bounds=(0, None)).low == 0.0
    table = np.array([[0.1, 5.0], [0.3, 1.0], [0.2, 2.0]])
    first, second = stats.estimates(table, bounds=[(0, 1), (None, None)])
    assert first == stats.estimate(table[:, 0], bounds=(0, 1))
    assert second == stats.estimate(table[:, 1])


def test_groups_of_one_sample_equal_no_groups() -> None:
    table = np.random.default_rng(0).lognormal(size=(30, 4))
    table[3, 1] = np.nan
    for a, b in zip(stats.estimates(table), stats.estimates(table, groups=np.arange(30) * 7), strict=True):
        assert (a.mean, a.low, a.high) == pytest.approx((b.mean, b.low, b.high))


def test_groups_of_one_size_equal_the_interval_of_their_means() -> None:
    values = np.random.default_rng(1).normal(size=(12, 5))
    ours = stats.estimate(values.ravel(), groups=np.repeat(np.arange(12), 5))
    means = stats.estimate(values.mean(axis=1))
    assert (ours.mean, ours.low, ours.high) == pytest.approx((means.mean, means.low, means.high))
    assert ours.n == 60


def test_groups_in_any_order_and_one_alone() -> None:
    generator = np.random.default_rng(2)
    values, of, rows = generator.normal(size=40), generator.integers(0, 6, 40), generator.permutation(40)
    assert stats.estimate(values, groups=of) == stats.estimate(values[rows], groups=of[rows])
    alone = stats.estimate(values, groups=np.zeros(40, dtype=int))
    assert alone.mean == pytest.approx(values.mean())
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    equal = stats.estimate([0.1] * 40, groups=of)
    assert (equal.low, equal.high) == (0.1, 0.1)


def test_many_columns_equal_single_columns() -> None:
    generator = np.random.default_rng(2)
    table = generator.normal(size=(50, 9))
    table[generator.random(table.shape) < 0.2] = np.nan
    for column, together in zip(table.T, stats.estimates(table), strict=True):
        alone = stats.estimate(column)
        assert (together.low, together.mean, together.high) == pytest.approx((alone.low, alone.mean, alone.high))
        assert (together.n, together.undefined) == (alone.n, alone.undefined)
        assert together.n == np.isfinite(column).sum()


def test_undefined_values_are_left_out_and_counted() -> None:
    values = np.array([0.1, 0.5, 0.9, 0.2])
    padded = np.array([np.nan, 0.1, np.inf, 0.5, 0.9, -np.inf, 0.2])
    a, b = stats.estimate(values), stats.estimate(padded)
    assert (a.mean, a.low, a.high, a.n) == (b.mean, b.low, b.high, b.n)
    assert (a.undefined, b.undefined) == (0, 3)


def test_degenerate_samples() -> None:
    equal = stats.estimate([0.1] * 7)
    assert (equal.mean, equal.low, equal.high) == (0.1, 0.1, 0.1)
    none = stats.estimate([np.nan, np.nan])
    assert math.isnan(none.mean)
    assert math.isnan(none.low)
    assert (none.n, none.undefined) == (0, 2)
    assert stats.estimate([]).n == 0
    one = stats.estimate([0.4])
    assert one.mean == 0.4
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    two = stats.estimate([0.0, 1.0])
    assert (two.low, two.high) == pytest.approx((0.5 - 6.353, 0.5 + 6.353), abs=1e-3)
    rare = stats.estimate([1.0] + [0.0] * 999, bounds=(0, 1))
    assert 0.0 <= rare.low <= rare.mean < rare.high < 0.02


@given(arrays(np.float64, st.integers(2, 25), elements=FINITE), st.randoms())
@settings(max_examples=60, deadline=None)
def test_interval_covers_its_mean_whatever_the_order(values: np.ndarray, random: object) -> None:
    first = stats.estimate(values)
    assert first.low <= first.mean <= first.high
    shuffled = values.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert stats.estimate(shuffled) == first


@given(arrays(np.float64, 12, elements=st.floats(-10, 10)), st.floats(0.1, 10), st.floats(-5, 5))
@settings(max_examples=30, deadline=None)
def test_interval_follows_scale_and_shift(values: np.ndarray, scale: float, shift: float) -> None:
    a, b = stats.estimate(values), stats.estimate(scale * values + shift)
    expected = (scale * a.low + shift, scale * a.high + shift)
    assert (b.low, b.high) == pytest.approx(expected, abs=1e-6 * scale + 1e-9)


def test_intervals_cover_the_mean_of_the_whole_set() -> None:
    generator = np.random.default_rng(5)
    whole = np.clip(generator.beta(0.6, 2.0, size=1000), 0, 1)
    draws = generator.integers(0, len(whole), size=(150, 1000))
    tests = stats.estimates(whole[draws])
    centre = float(whole.mean())
    share = np.mean([e.low <= centre <= e.high for e in tests])
    assert 0.93 <= share <= 0.97


def test_counts_are_those_of_scipy_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(stats.resample_counts(13, 40, seed=4)))
    drawn = np.random.default_rng(4).integers(0, 13, (40, 13))
    np.testing.assert_array_equal(whole, [np.bincount(row, minlength=13) for row in drawn])
    monkeypatch.setattr("heatproof.stats.intervals.CELLS", 30)
    np.testing.assert_array_equal(np.concatenate(list(stats.resample_counts(13, 40, seed=4))), whole)


def test_bootstrap_by_blocks_is_close_to_the_full_jackknife() -> None:
    values = np.random.default_rng(3).lognormal(sigma=1.2, size=(900, 1))

    def mean(counts: np.ndarray) -> np.ndarray:
        return counts @ values / counts.sum(axis=1, keepdims=True)

    (blocks,), (full,) = stats.bootstrap(mean, 900, folds=300), stats.bootstrap(mean, 900, folds=900)
    assert (blocks.low, blocks.high) == pytest.approx((full.low, full.high), abs=0.03 * (full.high - full.low))


def test_bootstrap_of_a_ratio_equals_scipy() -> None:
    generator = np.random.default_rng(9)
    top, bottom = generator.gamma(2.0, size=40), 1 + generator.random(40)
    (ours,) = stats.bootstrap(lambda w: (w @ top / (w @ bottom))[:, None], 40, resamples=999, seed=11)
    theirs = scipy.stats.bootstrap(
        (top, bottom),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        n_resamples=999,
        rng=np.random.default_rng(11),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_bootstrap_leaves_out_resamples_without_a_value() -> None:
    values = np.array([[3.0], [5.0], [np.nan]])

    def mean(counts: np.ndarray) -> np.ndarray:
        weight = counts[:, :2].sum(axis=1, keepdims=True)
        return np.divide(counts[:, :2] @ values[:2], weight, out=np.full_like(weight, np.nan), where=weight > 0)

    (ours,) = stats.bootstrap(mean, 3)
    assert (ours.low, ours.mean, ours.high) == (3.0, 4.0, 5.0)
    (never,) = stats.bootstrap(lambda counts: np.full((len(counts), 1), np.nan), 3)
    assert math.isnan(never.low)


@pytest.mark.parametrize(
    ("values", "options", "word"),
    [
        (np.zeros((2, 2)), {}, "shape"),
        ([1.0, 2.0], {"level": 1.0}, "level"),
        ([1.0, 2.0], {"bounds": (0.0, 1.0)}, "outside"),
        ([1.0, 2.0], {"bounds": (3.0, 1.0)}, "below"),
        ([1.0, 2.0], {"bounds": (1.0, 2.0, 3.0)}, "bounds"),
        ([1.0, 2.0], {"groups": [1]}, "groups"),
    ],
)
def test_misuse_of_estimate(values: object, options: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        stats.estimate(values, **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------- tests and effects


def _scores(seed: int = 0, n: int = 40, m: int = 5, decimals: int | None = None) -> np.ndarray:
    generator = np.random.default_rng(seed)
    table = generator.normal(size=(n, m)) + 0.4 * np.arange(m)
    return table if decimals is None else table.round(decimals)


@pytest.mark.parametrize("decimals", [None, 0])
def test_friedman_equals_scipy(decimals: int | None) -> None:
    table = _scores(decimals=decimals)
    ours, theirs = stats.friedman(table), scipy.stats.friedmanchisquare(*table.T)
    assert (ours.statistic, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert ours.n == 40


def test_friedman_of_two_columns_is_the_sign_test() -> None:
    table = _scores(m=2)
    wins = int((table[:, 0] > table[:, 1]).sum())
    assert stats.friedman(table).statistic == pytest.approx((2 * wins - 40) ** 2 / 40)


def test_friedman_without_evidence() -> None:
    assert stats.friedman(np.ones((5, 3))).p == 1.0
    assert stats.friedman(np.ones((1, 3))).p == 1.0
    assert stats.friedman(np.full((4, 3), np.nan)) == stats.Test(0.0, 1.0, 0)


def test_kendall_w() -> None:
    assert stats.kendall_w(np.tile([3.0, 1.0, 2.0], (6, 1))) == pytest.approx(1.0)
    assert stats.kendall_w([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]) == pytest.approx(0.0)
    table = np.random.default_rng(1).normal(size=(4, 6))
    mean_rho = np.mean([scipy.stats.spearmanr(a, b)[0] for i, a in enumerate(table) for b in table[:i]])
    assert stats.kendall_w(table) == pytest.approx((1 + 3 * mean_rho) / 4)
    assert math.isnan(stats.kendall_w([[1.0, 2.0]]))
    assert math.isnan(stats.kendall_w(np.ones((3, 3))))


def test_pairwise_equals_scipy_and_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    table = _scores(seed=3)
    table[4, 1] = np.nan
    tests = stats.pairwise(table)
    upper = np.triu_indices(5, 1)
    raw = [
        scipy.stats.wilcoxon(d[np.isfinite(d)]).pvalue
        for d in (table[:, i] - table[:, j] for i, j in np.transpose(upper))
    ]
    np.testing.assert_allclose(stats.pairwise(table, correction="none").p[upper], raw)
    np.testing.assert_allclose(tests.p[upper], multipletests(raw, method="holm")[1])
    np.testing.assert_array_equal(tests.p, tests.p.T)
    np.testing.assert_array_equal(tests.rank_biserial, -tests.rank_biserial.T)
    assert tests.n[0, 1] == 39
    assert tests.n[0, 2] == 40


def test_pairwise_of_many_samples_with_ties_equals_scipy() -> None:
    table = _scores(seed=6, n=90, m=4, decimals=0)
    table[:45, 1] = table[:45, 0]
    tests = stats.pairwise(table, correction="none")
    for i, j in np.transpose(np.triu_indices(4, 1)):
        d = table[:, i] - table[:, j]
        close = 1e-9 if (d != 0).sum() > 50 else 0.05  # ties are counted out up to 50, which scipy does not
        assert tests.p[i, j] == pytest.approx(scipy.stats.wilcoxon(d[d != 0]).pvalue, rel=close)
        assert tests.rank_biserial[i, j] == pytest.approx(stats.rank_biserial(d))


def test_pairwise_of_few_sizes_is_exact() -> None:
    signs = np.array([1.0] * 12 + [-1.0] * 4 + [0.0] * 9)  # p = 0.046 by the normal approximation
    tests = stats.pairwise(np.stack([signs, np.zeros(25)], axis=1))
    assert tests.p[0, 1] == pytest.approx(scipy.stats.binomtest(12, 16).pvalue)
    many = np.tile(signs, 8)
    tests = stats.pairwise(np.stack([many, np.zeros(200)], axis=1))
    assert tests.p[0, 1] == pytest.approx(scipy.stats.binomtest(96, 128).pvalue)


def test_pairwise_of_groups_turns_their_signs_together() -> None:
    generator = np.random.default_rng(4)
    table, of = generator.normal(size=(24, 2)).round(1), np.repeat(np.arange(8), 3)
    d = table[:, 0] - table[:, 1]
    signed = np.sign(d[d != 0]) * scipy.stats.rankdata(np.abs(d[d != 0]))
    sums = np.bincount(of[d != 0], weights=signed, minlength=8)
    all_ = np.array([np.dot(signs, np.abs(sums)) for signs in product((-1, 1), repeat=8)])
    expected = min(1.0, 2 * min((all_ >= sums.sum()).mean(), (all_ <= sums.sum()).mean()))
    assert stats.pairwise(table, groups=of).p[0, 1] == pytest.approx(expected)
    np.testing.assert_allclose(stats.pairwise(table, groups=np.arange(24)).p, stats.pairwise(table).p)
    same = np.repeat(generator.normal(1.0, 0.1, size=(4, 1)), 10, axis=0)  # four patients, ten equal samples of each
    pair = np.hstack([same, 0 * same])
    groups = np.repeat(np.arange(4), 10)
    assert stats.pairwise(pair).p[0, 1] < 1e-6
    assert stats.pairwise(pair, groups=groups).p[0, 1] == pytest.approx(0.125)


def test_pairwise_of_equal_columns_has_p_one() -> None:
    column = np.arange(6.0)
    tests = stats.pairwise(np.stack([column, column, column + 1], axis=1))
    assert tests.p[0, 1] == 1.0
    assert tests.p[0, 2] < 0.1
    assert tests.rank_biserial[2, 0] == 1.0


@given(arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1)))
@settings(max_examples=50, deadline=None)
def test_holm_is_the_step_down_rule(p: np.ndarray) -> None:
    ordered = np.sort(p)
    expected, worst = {}, 0.0
    for i, value in enumerate(ordered):
        worst = max(worst, min(1.0, (len(p) - i) * value))
        expected.setdefault(value, worst)
    stepped = stats.holm(p)
    assert (stepped >= p).all()
    for value, adjusted in zip(p, stepped, strict=True):
        assert adjusted >= expected[value] or adjusted == pytest.approx(expected[value])


def test_nemenyi_agrees_with_the_critical_difference() -> None:
    table = _scores(seed=5, n=30)
    p = stats.nemenyi(table)
    mean = stats.ranks(table).mean(axis=0)
    reach = stats.critical_difference(5, 30)
    for i, j in product(range(5), repeat=2):
        if i != j:
            assert (abs(mean[i] - mean[j]) > reach) == (p[i, j] < 0.05)
    assert (stats.nemenyi(np.ones((1, 3))) == 1).all()


def test_critical_difference_of_the_published_table() -> None:
    # Demšar (2006), table 5: q of 0.05 for 2 to 10 classifiers
    q = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for k, value in enumerate(q, start=2):
        difference = stats.critical_difference(k, 20)
        assert difference == pytest.approx(value * math.sqrt(k * (k + 1) / 120), abs=1.5e-3)
    with pytest.raises(InputError, match="at least two"):
        stats.critical_difference(1, 20)


def test_rank_biserial_closed_forms_and_pairs() -> None:
    assert stats.rank_biserial([1.0, 2.0, 3.0, 0.0]) == 1.0
    assert stats.rank_biserial([0.0, np.nan]) == 0.0
    d = np.random.default_rng(2).normal(0.3, size=25)
    walsh = [np.sign(d[i] + d[j]) for i in range(25) for j in range(i + 1)]
    assert stats.rank_biserial(d) == pytest.approx(np.mean(walsh))


@given(
    arrays(np.float64, st.integers(1, 9), elements=st.integers(-3, 3).map(float)),
    arrays(np.float64, st.integers(1, 9), elements=st.integers(-3, 3).map(float)),
)
@settings(max_examples=50, deadline=None)
def test_cliffs_delta_counts_pairs(a: np.ndarray, b: np.ndarray) -> None:
    assert stats.cliffs_delta(a, b) == pytest.approx(np.mean([np.sign(i - j) for i in a for j in b]))


def test_effects_of_nothing() -> None:
    assert math.isnan(stats.cliffs_delta([], [1.0]))
    assert math.isnan(stats.cohens_dz([1.0]))
    assert math.isnan(stats.cohens_dz([0.1, 0.1, 0.1]))
    tests = stats.effects([3.0, 4.0, 8.0], [1.0, 3.0, 5.0])
    assert tests.cohens_dz == pytest.approx(2.0)
    assert tests.rank_biserial == 1.0


# ---------------------------------------------------------------- groups and ranks


@given(st.integers(1, 6), st.integers(0, 2**15 - 1))
@settings(max_examples=80, deadline=None)
def test_groups_are_the_maximal_cliques(m: int, bits: int) -> None:
    p = np.ones((m, m))
    for k, (i, j) in enumerate((a, b) for a in range(m) for b in range(a)):
        p[i, j] = p[j, i] = 0.5 if bits >> k & 1 else 0.01
    subsets = [s for s in product((0, 1), repeat=m) if any(s)]
    sets = [{i for i in range(m) if s[i]} for s in subsets]
    cliques = [s for s in sets if all(p[i, j] > 0.05 for i in s for j in s)]
    expected = {frozenset(s) for s in cliques if not any(s < other for other in cliques)}
    tests = stats.groups(p, np.arange(m))
    assert {frozenset(s) for s in tests} == expected
    marks = stats.letters(tests, m)
    for i, j in product(range(m), repeat=2):
        assert bool(set(marks[i]) & set(marks[j])) == (p[i, j] > 0.05)


def test_more_groups_than_letters() -> None:
    marks = stats.letters([(i,) for i in range(60)], 60)
    assert len(set(marks)) == 60


def test_ranks_direction_ties_and_undefined() -> None:
    table = [[0.3, 0.1, 0.2], [1.0, 1.0, 0.0], [np.nan, 1.0, 2.0]]
    np.testing.assert_array_equal(stats.ranks(table)[:2], [[1, 3, 2], [1.5, 1.5, 3]])
    np.testing.assert_array_equal(stats.ranks(table, better="lower")[0], [3, 1, 2])
    assert np.isnan(stats.ranks(table)[2]).all()


def test_rank_intervals_hold_the_mean_rank() -> None:
    table = _scores(seed=8)
    for interval, mean in zip(stats.rank_intervals(table), stats.ranks(table).mean(axis=0), strict=True):
        assert interval.low < interval.mean < interval.high
        assert interval.mean == pytest.approx(mean)


def test_support_closed_forms() -> None:
    np.testing.assert_array_equal(stats.support([[1.0, 2.0, 3.0]] * 5), [1, 0, 0])
    np.testing.assert_allclose(stats.support([[1.0, 1.0, 3.0]] * 5), [0.5, 0.5, 0])
    assert np.isnan(stats.support([[np.nan, 1.0]])).all()
    with pytest.raises(InputError, match="shape"):
        stats.support([1.0, 2.0])


def test_support_equals_a_loop() -> None:
    placed = stats.ranks(_scores(seed=4, n=12, m=3))
    generator = np.random.default_rng(6)
    wins = np.zeros(3)
    for _ in range(400):
        mean = placed[generator.integers(0, 12, 12)].sum(axis=0)
        first = mean == mean.min()
        wins += first / first.sum()
    np.testing.assert_allclose(stats.support(placed, resamples=400, seed=6), wins / 400)


def test_support_doubts_the_baseline() -> None:
    first, second = np.tile([1.0, 2.0], (50, 1)), np.tile([2.0, 1.0], (50, 1))
    agreed = stats.support(np.stack([first, first]))
    at_odds = stats.support(np.stack([first, second]))
    np.testing.assert_array_equal(agreed, [1, 0])
    np.testing.assert_allclose(at_odds, [0.5, 0.5], atol=0.05)


def test_rank_puts_clear_differences_in_order() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(120, 1))
    table = np.hstack([noise, noise + 1 + 0.1 * generator.normal(size=(120, 1)), noise + 5])
    table = np.hstack([table, table[:, 2:] + 1e-3 * generator.normal(size=(120, 1))])
    ranking = stats.rank(table, ["worst", "middle", "best", "as good"])
    assert [row.place for row in ranking] == [1, 1, 3, 4]
    assert {row.name for row in ranking[:2]} == {"best", "as good"}
    assert [row.name for row in ranking[2:]] == ["middle", "worst"]
    assert [row.letters for row in ranking] == ["a", "a", "b", "c"]
    assert sum(row.support for row in ranking) == pytest.approx(1.0)
    turned = stats.rank(table, ["worst", "middle", "best", "as good"], better="lower")
    assert turned[0].name == "worst"


def test_rank_sees_nothing_in_noise() -> None:
    table = np.random.default_rng(3).normal(size=(60, 4))
    ranking = stats.rank(table, list("abcd"))
    assert {row.place for row in ranking} == {1}
    assert {row.letters for row in ranking} == {"a"}


def test_rank_of_few_and_undefined() -> None:
    one = stats.rank([[0.1, 0.2]], ["a", "b"])
    assert [row.place for row in one] == [1, 1]
    table = np.column_stack([np.arange(9.0), np.full(9, np.nan), np.arange(9.0) + 1])
    ranking = stats.rank(table, ["low", "gone", "high"])
    assert [row.name for row in ranking] == ["high", "low", "gone"]
    assert [row.place for row in ranking] == [1, 2, 3]
    assert (ranking[2].score.n, ranking[2].letters) == (0, "")
    assert stats.rank(np.zeros((4, 0)), []) == []
    (only,) = stats.rank(np.arange(5.0)[:, None], ["only"])
    assert (only.place, only.letters, only.support) == (1, "a", 1.0)
    with pytest.raises(InputError, match="names"):
        stats.rank(table, ["a"])
    with pytest.raises(InputError, match="shape"):
        stats.rank([1.0, 2.0], ["a", "b"])


def test_rank_does_not_depend_on_the_order_of_samples_or_methods() -> None:
    table, names = _scores(seed=9), ["a", "b", "c", "d", "e"]
    generator = np.random.default_rng(1)
    rows, columns = generator.permutation(40), generator.permutation(5)
    first = stats.rank(table, names)
    second = stats.rank(table[rows][:, columns], [names[i] for i in columns])
    assert [row.name for row in first] == [row.name for row in second]
    for a, b in zip(first, second, strict=True):
        assert (a.place, a.letters) == (b.place, b.letters)
        assert (a.score.low, a.rank.high) == pytest.approx((b.score.low, b.rank.high))
        assert a.support == pytest.approx(b.support, abs=0.05)


# ---------------------------------------------------------------- power


def test_samples_needed_give_the_promised_power() -> None:
    generator = np.random.default_rng(4)
    shift = 0.35
    needed = int(stats.samples_needed(generator.normal(shift, size=200_000)))
    trials = generator.normal(shift, size=(2000, needed))
    detected = (scipy.stats.wilcoxon(trials, axis=1).pvalue < 0.05).mean()
    assert detected == pytest.approx(0.8, abs=0.04)


def test_samples_needed_and_power_agree() -> None:
    d = np.random.default_rng(4).normal(0.3, size=500)
    needed = int(stats.samples_needed(d, power=0.9))
    assert stats.power(d, needed) >= 0.9 > stats.power(d, needed - 1)
    with_zeros = np.concatenate([d, np.zeros(500)])
    assert stats.samples_needed(with_zeros, power=0.9) == pytest.approx(2 * needed, abs=2)
    assert stats.samples_needed([0.0, 0.0]) == math.inf
    assert stats.samples_needed([]) == math.inf


def test_shares_have_the_exact_interval_and_always_a_width() -> None:
    share = stats.proportion([1.0] * 20 + [0.0] * 5 + [math.nan])
    exact = scipy.stats.binomtest(20, 25).proportion_ci(0.95, method="exact")
    assert (share.mean, share.n, share.undefined) == (pytest.approx(0.8), 25, 1)
    assert (share.low, share.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert stats.proportion([1.0] * 50).low == pytest.approx(0.025 ** (1 / 50))
    assert stats.proportion([math.nan]).n == 0
    with pytest.raises(InputError, match="0 and 1"):
        stats.proportion([0.5])


def test_shares_of_ones_are_held_as_often_as_they_say() -> None:
    generator, truth = np.random.default_rng(3), 0.979
    drawn = (generator.random((1000, 50)) < truth).astype(float)
    held = np.mean([(e := stats.proportion(row)).low <= truth <= e.high for row in drawn])
    assert 0.95 < held < 0.995
