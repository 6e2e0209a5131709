"""What people see first: short texts of public objects, tables in notebooks, and records that take what people have."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import Tensor

import heatproof as hp
from heatproof.errors import InputError
from heatproof.performance import measure
from heatproof.registry import Spec

from .levels import CONTROLS, built

LONG = "a name that is long & <odd>, " * 30
WORDS = ("tensor(", "array(", "Conv1d", "Linear", "...")


def _samples(n: int = 500, classes: int = 4) -> hp.Samples:
    x = torch.arange(n * 2 * 9, dtype=torch.float32).reshape(n, 2, 9)
    mask = torch.zeros(n, 9, dtype=torch.bool)
    names = [LONG, *(f"class {k}" for k in range(1, classes))]
    return hp.Samples(x, torch.arange(n) % classes, mask, names, LONG, [LONG] * n, {"source": LONG * 9})


class Unread:
    """Inputs whose values must not be read."""

    dtype, ndim = torch.float32, 3

    def __init__(self, n: int = 3) -> None:
        self.shape = torch.Size((n, 1, 9))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: object) -> Tensor:
        raise AssertionError("read")

    def take(self, rows: Sequence[int] | Tensor) -> Unread:
        return Unread(len(rows))


def _model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(28, 4)).eval()


def _performance() -> object:
    p = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    return measure(p, np.arange(500) % 4, ["a", "b", "c", "d"], resamples=100)


def _results() -> hp.Results:
    return built({"grad-cam": 1.0, "layer-cam <b>": 0.0, **{f"method {i}": -0.1 * i for i in range(6)}, **CONTROLS})


# One maker a public object.
OBJECTS: dict[str, Callable[[], object]] = {
    "Samples": _samples,
    "Samples, unread": lambda: hp.Samples(Unread(), [0, 1, 0]),
    "Splits": lambda: hp.Splits(_samples(), _samples(20)),
    "Estimate": lambda: hp.Estimate(0.65, 0.61, 0.7, 200, 3),
    "Skip": lambda: hp.Skip(LONG, LONG, LONG),
    "Spec": lambda: Spec.parse("rise:masks=40"),
    "Probe": lambda: hp.Probe(_model()),
    "Performance": _performance,
    "Results": _results,
    "Ranking": lambda: _results().ranking(),
    "Ranking by one metric": lambda: _results().ranking("deletion"),
    "Verdict": lambda: _results().verdict(),
    "Finding": lambda: hp.Finding("metric-not-valid", "note", (LONG,) * 9, reason="random", numbers={"share": 0.2}),
    "StudyOptions": lambda: hp.StudyOptions(methods=(Spec("grad-cam"),), seed=3),
}
TABLES: Sequence[str] = (
    "Samples", "Samples, unread", "Splits", "Probe", "Performance", "Results", "Ranking", "Ranking by one metric",
    "Verdict",
)  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_texts_are_short_and_hold_no_array_or_model(name: str) -> None:
    for text in (repr(OBJECTS[name]()), str(OBJECTS[name]())):
        assert 0 < len(text) < 300
        assert "\n" not in text
        assert not any(word in text for word in WORDS)


@pytest.mark.parametrize("name", TABLES)
def test_notebooks_show_a_table(name: str) -> None:
    page = OBJECTS[name]()._repr_html_()  # type: ignore[attr-defined]
    root = ElementTree.fromstring(page)
    assert root.tag == "table" or root.find(".//table") is not None
    assert len(page) < 6000
    assert not any(word in page for word in WORDS)


# ---------------------------------------------------------------- records


def test_samples_and_splits_say_what_they_are() -> None:
    train = hp.Samples(np.zeros((1200, 1, 40), "float32"), np.zeros(1200, "int32"), classes=["a", "b"], name="digits")
    test = replace(train.take(range(10)), mask=torch.zeros(10, 40, dtype=torch.bool))
    assert repr(train) == (
        "Samples('digits', 1,200 inputs of shape (1, 40), float32, 2 classes, without planted truth)"
    )
    assert repr(test).endswith("with planted truth)")
    splits = hp.Splits(train, test)
    assert repr(splits) == "Splits('digits', 1,200 training and 10 test inputs of shape (1, 40), 2 classes)"
    rows = [["".join(cell.itertext()) for cell in row] for row in ElementTree.fromstring(splits._repr_html_())]
    assert rows == [
        ["", "training", "test"],
        ["name", "digits", "digits"],
        ["samples", "1,200", "10"],
        ["shape", "(1, 40)", "(1, 40)"],
        ["planted truth", "no", "yes"],
        ["class a", "1,200", "10"],
        ["class b", "0", "0"],
    ]


def test_many_classes_are_summed_up() -> None:
    rows = list(ElementTree.fromstring(_samples(100, 50)._repr_html_()))
    assert ["".join(cell.itertext()) for cell in rows[-1]] == ["30 more classes", "60"]


def test_estimates_read_as_in_a_paper_and_count_as_numbers() -> None:
    estimate = hp.Estimate(0.65, 0.61, 0.7, 1200)
    assert repr(estimate) == "0.650 (95 % CI 0.610 to 0.700, n=1,200)"
    assert str(estimate) == f"{estimate}" == "0.650 (95 % CI 0.610 to 0.700)"
    assert f"{estimate:.1f}|{estimate:>6.2f}" == "0.7|  0.65"
    assert float(estimate) == 0.65
    assert repr(replace(estimate, undefined=2, level=0.9)) == "0.650 (90 % CI 0.610 to 0.700, n=1,200, 2 undefined)"
    nan = float("nan")
    assert repr(hp.Estimate(0.5, nan, nan, 1)) == "0.500 (n=1)"
    assert str(hp.Estimate(0.5, nan, nan, 1)) == "0.500"
    assert repr(hp.Estimate(nan, nan, nan, 0, 5)) == "undefined (n=0, 5 undefined)"


X = np.random.default_rng(0).random((3, 1, 6))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_samples_take_arrays_of_floats(dtype: str) -> None:
    samples = hp.Samples(X.astype(dtype), [0, 1, 1])
    assert samples.x.dtype == {2: torch.float16, 4: torch.float32, 8: torch.float64}[np.dtype(dtype).itemsize]
    np.testing.assert_array_equal(np.asarray(samples.x), X.astype(dtype).astype(np.dtype(dtype).newbyteorder("=")))


def test_samples_take_arrays_that_torch_cannot_share() -> None:
    fixed = X.copy()
    fixed.flags.writeable = False
    for x in (fixed, X[:, :, ::-1], X[::-1], X.swapaxes(0, 2)[:3]):
        np.testing.assert_array_equal(np.asarray(hp.Samples(x, [0] * len(x)).x), x)
    assert hp.Samples(X.tolist(), [0, 1, 1]).x.dtype == torch.get_default_dtype()


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 1],
        (0, 1, 1),
        np.array([0, 1, 1], "int32"),
        np.array([0, 1, 1], "uint8"),
        np.array([False, True, True]),
        torch.tensor([0, 1, 1], dtype=torch.int16),
    ],
)
def test_samples_take_labels_of_any_whole_type(y: object) -> None:
    samples = hp.Samples(X, y)  # type: ignore[arg-type]
    assert samples.y.dtype == torch.int64
    assert samples.y.tolist() == [0, 1, 1]
    assert samples.classes == ("0", "1")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_samples_take_masks_of_zero_and_one(dtype: str) -> None:
    truth = X[:, 0] > 0.5
    samples = hp.Samples(X, [0, 1, 1], truth.astype(dtype))
    assert samples.mask is not None
    assert samples.mask.dtype == torch.bool
    np.testing.assert_array_equal(samples.mask.numpy(), truth)


def test_tensors_stay_the_same_and_lazy_inputs_unread() -> None:
    x, y = torch.zeros(3, 1, 9), torch.tensor([0, 1, 1])
    samples = hp.Samples(x, y)
    assert samples.x is x
    assert samples.y is y
    lazy = Unread()
    assert hp.Samples(lazy, np.array([0, 1, 1])).x is lazy
    assert len(hp.Samples(lazy, y).take([2, 0]).x) == 2
    assert copy.deepcopy(samples).y.tolist() == [0, 1, 1]
    assert len(hp.Samples(np.zeros((0, 1, 4)), [])) == 0


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: hp.Samples(np.zeros((3, 1, 4), "uint8"), [0, 1, 1]), r"expected float; convert them"),
        (lambda: hp.Samples(np.zeros((3, 4)), [0, 1, 1]), r"expected \(N, C, \*S\); add an axis of channels"),
        (lambda: hp.Samples(np.array([["a"]]), [0]), "inputs x: got ndarray"),
        (lambda: hp.Samples(X, [0.0, 1.0, 1.0]), "whole numbers"),
        (lambda: hp.Samples(X, [[0], [1], [1]]), r"shape \(3, 1\)"),
        (lambda: hp.Samples(X, [0, 1]), "one label an input"),
        (lambda: hp.Samples(X, [0, 1, 2], classes=["a", "b"]), "labels reach from 0 to 2"),
        (lambda: hp.Samples(X, [0, 1, -1]), "labels reach from -1"),
        (lambda: hp.Samples(X, [0, 1, 1], np.full((3, 6), 0.5)), "other values than 0 and 1"),
        (lambda: hp.Samples(X, [0, 1, 1], np.full((3, 6), np.nan)), "other values than 0 and 1"),
        (lambda: hp.Samples(X, [0, 1, 1], np.full((3, 6), 255, "uint8")), "mask > 0.5"),
        (lambda: hp.Samples(X, [0, 1, 1], np.zeros((3, 5))), r"mask: got \(3, 5\), expected \(3, 6\)"),
        (lambda: hp.Samples(X, [0, 1, 1], ids=["a"]), "1 ids for 3"),
    ],
)
def test_samples_that_do_not_fit_are_refused(call: Callable[[], hp.Samples], word: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=word):
            call()
