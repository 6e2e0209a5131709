"""Specs round-trip through text; registries refuse what they do not know, with the near names."""

from __future__ import annotations

import pickle
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.errors import UnknownName, UsageError
from heatproof.registry import Registry, Spec

VALUES = st.one_of(
    st.integers(-1000, 1000),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.booleans(),
    st.none(),
    st.sampled_from(["gaussian", "blur", "min"]),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "steps", "top_k"]), VALUES))
def test_specs_round_trip(options: dict[str, object]) -> None:
    spec = Spec("road", tuple(sorted(options.items())))
    assert Spec.parse(str(spec)) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301
    assert hash(Spec.parse(str(spec))) == hash(spec)
    assert Spec.parse(spec) is spec


def test_writing() -> None:
    assert Spec.parse(" road : steps = 20 , top-k=3").kwargs == {"steps": 20, "top_k": 3}
    assert Spec.parse("a:x=[1,2],y=(3,4),z=5+6").kwargs == {"x": (1, 2), "y": (3, 4), "z": (5, 6)}
    assert Spec.parse("a:x=True,y=none,z=1e-3").kwargs == {"x": True, "y": None, "z": 1e-3}
    assert Spec.parse("a:y=1,x=2") == Spec.parse("a:x=2,y=1")
    assert str(Spec.parse("a:y=1,x=2")) == "a:x=2,y=1"
    for bad in ("a:steps", "a:=3", "a:steps=1,two"):
        with pytest.raises(UsageError, match="no value"):
            Spec.parse(bad)


@pytest.fixture
def registry() -> Registry:
    found = Registry("colour")

    @found.add("dark-red", paper="1", warm=True)
    def dark_red(
        x: int, *, depth: int = 1, share: float = 0.5, kind: Literal["a", "b"] = "a", on: bool = False,
        sizes: tuple[int, ...] = (1,), seed: int | None = None,
    ) -> int:  # fmt: skip
        """A colour.

        More of it.
        """
        return x + depth

    return found


def test_entries(registry: Registry) -> None:
    entry = registry["dark-red"]
    assert entry.function(1, depth=2) == 3
    assert (entry.summary, entry.paper, entry.warm) == ("A colour.", "1", True)
    assert entry.options == {"depth": 1, "share": 0.5, "kind": "a", "on": False, "sizes": (1,), "seed": None}
    assert list(registry) == ["dark-red"]
    assert len(registry) == 1
    assert "dark-red" in registry
    assert "red" not in registry
    with pytest.raises(AttributeError, match="declares no 'cold'"):
        _ = entry.cold


@pytest.mark.parametrize(
    "text",
    ["dark-red", "dark-red:depth=3", "dark-red:share=1", "dark-red:kind=b,on=true", "dark-red:sizes=3+4",
     "dark-red:seed=none", "dark-red:seed=4"],
)  # fmt: skip
def test_good_specs(registry: Registry, text: str) -> None:
    assert str(registry.spec(text)) == str(Spec.parse(text))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("dark-rde", UnknownName, "did you mean 'dark-red'"),
        ("dark_red", UnknownName, "did you mean 'dark-red'"),
        ("blue", UnknownName, "known: dark-red"),
        ("dark-red:dept=1", UnknownName, "did you mean 'depth'"),
        ("dark-red:depth=1.5", UsageError, "expected int"),
        ("dark-red:depth=true", UsageError, "expected int"),
        ("dark-red:share=wide", UsageError, "expected float"),
        ("dark-red:kind=c", UsageError, "expected"),
        ("dark-red:on=1", UsageError, "expected bool"),
        ("dark-red:sizes=3", UsageError, "expected"),
        ("dark-red:seed=x", UsageError, "expected"),
    ],
)
def test_bad_specs(registry: Registry, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        registry.spec(text)
    assert "\n" not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), UsageError)  # noqa: S301


def test_registration_is_strict(registry: Registry) -> None:
    def dark_red() -> None: ...

    for name, message in (
        ("dark-red", "twice"),
        ("Dark-red", "kebab"),
        ("dark_red", "kebab"),
        ("light-red", "function"),
    ):
        with pytest.raises(UsageError, match=message):
            registry.add(name)(dark_red)
