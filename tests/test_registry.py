"""Specs round-trip through text; registries refuse what they do not know, with the near names."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.errors import UnknownName, UsageError
from heatproof.pipeline import registries
from heatproof.registry import Entry, Registry, Spec

SCALARS = st.one_of(
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.text(),
    st.sampled_from(["blur", "None", "1"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=4).map(tuple))


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "steps", "top_k"]), VALUES))
def test_specs_round_trip(options: dict[str, object]) -> None:
    spec = Spec("road", tuple(sorted(options.items())))
    assert repr(Spec.parse(str(spec))) == repr(spec)
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
    assert str(Spec("a", (("x", (0.1, 2)), ("y", "blur")))) == "a:x=0.1+2,y=blur"
    assert [str(Spec("a", (("x", v),))) for v in ((3,), "1", "a,b")] == ["a:x=(3,)", "a:x='1'", "a:x='a,b'"]
    with pytest.raises(UsageError, match="twice"):
        Spec.parse("a:top-k=1,top_k=2")
    for bad in ("a:steps", "a:=3", "a:steps=1,two"):
        with pytest.raises(UsageError, match="no value"):
            Spec.parse(bad)


@dataclass(frozen=True)
class Colour(Entry):
    warm: bool = False


def dark_red(
    x: int, *, depth: int = 1, share: float = 0.5, kind: Literal["a", "b"] = "a", on: bool = False,
    sizes: tuple[int, ...] = (1,), seed: int | None = None,
) -> int:  # fmt: skip
    """A colour
    of its own.

    More of it. Range: at least 0. Cost: none,
    or nearly so.
    Tells: nothing.
    """
    return x + depth


def dark_red_plus_plus(*, shade: str | None = None) -> None:
    """Another colour."""


@pytest.fixture
def registry() -> Registry[Colour]:
    shades: Registry[Colour] = Registry("shade")
    shades.add(Colour("dark-red", dark_red))
    colours: Registry[Colour] = Registry("colour", named={"shade": shades})
    colours.add(Colour("dark-red", dark_red, paper="1", warm=True, limits={"depth": 1}))
    colours.add(Colour("dark-red-plus-plus", dark_red_plus_plus, label="Red++"))
    return colours


def test_entries(registry: Registry[Colour]) -> None:
    entry = registry["dark-red"]
    assert entry.function(1, depth=2) == 3
    assert (entry.summary, entry.paper, entry.warm) == ("A colour of its own.", "1", True)
    assert entry.notes == {"Range": "at least 0.", "Cost": "none, or nearly so.", "Tells": "nothing."}
    assert entry.cost == "none, or nearly so."
    assert (entry.label, registry["dark-red-plus-plus"].label) == ("Dark red", "Red++")
    assert entry.options == {"depth": 1, "share": 0.5, "kind": "a", "on": False, "sizes": (1,), "seed": None}
    assert entry.facts() == {"summary": "A colour of its own.", "paper": "1", "label": "Dark red", "warm": True}
    assert list(registry) == ["dark-red", "dark-red-plus-plus"]
    assert len(registry) == 2
    assert "dark-red" in registry
    assert "red" not in registry
    assert 3 not in registry


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("dark_red", "dark-red"),
        ("DarkRed", "dark-red"),
        ("Dark-RED", "dark-red"),
        ("Dark-Red++", "dark-red-plus-plus"),
        ("darkred++", "dark-red-plus-plus"),
        ("Dark Red:Depth=2,KIND=b", "dark-red:depth=2,kind=b"),
        ("dark-red++:shade=Dark_Red:Depth=3", "dark-red-plus-plus:shade=dark-red:depth=3"),
    ],
)
def test_spelling_is_forgiven_and_the_canonical_name_carried(
    registry: Registry[Colour], text: str, canonical: str
) -> None:
    assert str(registry.spec(text)) == canonical
    assert registry.spec(registry.spec(text)) == Spec.parse(canonical)
    assert registry[text.partition(":")[0]].name == canonical.partition(":")[0]
    assert text.partition(":")[0] in registry


@pytest.mark.parametrize(
    ("kind", "typed", "canonical"),
    [
        ("methods", "GradCAM", "grad-cam"),
        ("methods", "grad_cam", "grad-cam"),
        ("methods", "Grad-CAM", "grad-cam"),
        ("methods", "Grad-CAM++", "grad-cam-plus-plus"),
        ("methods", "gradcam++", "grad-cam-plus-plus"),
        ("methods", "LeGrad:Smooth=augment", "le-grad:smooth=augment"),
        ("metrics", "ROC AUC", "roc-auc"),
        ("metrics", "AverageDrop:Keep=0.3,Fill=Noisy_Linear", "average-drop:fill=noisy-linear,keep=0.3"),
        ("fills", "Noisy Linear", "noisy-linear"),
        ("data", "MNIST-1D", "mnist1d"),
        ("nets", "VGG7", "vgg-7"),
        ("recipes", "step_decay", "step-decay"),
    ],
)
def test_every_registry_forgives_spelling(kind: str, typed: str, canonical: str) -> None:
    assert str(registries.registry(kind).spec(typed)) == canonical


def test_an_ambiguous_name_is_unknown(registry: Registry[Colour]) -> None:
    def darkred() -> None:
        """A colour."""

    with registry.temporarily():
        registry.add(Colour("darkred", darkred))
        assert registry["dark-red"].warm
        assert not registry["darkred"].warm
        assert "Dark_Red" not in registry
        with pytest.raises(UnknownName, match=r"did you mean .*'dark-red'"):
            _ = registry["Dark_Red"]
    assert "darkred" not in list(registry)
    assert registry["darkred"].name == "dark-red"


@pytest.mark.parametrize(
    "text",
    ["dark-red", "dark-red:depth=3", "dark-red:share=1", "dark-red:kind=b,on=true", "dark-red:sizes=3+4",
     "dark-red:seed=none", "dark-red:seed=4"],
)  # fmt: skip
def test_good_specs(registry: Registry[Colour], text: str) -> None:
    assert str(registry.spec(text)) == str(Spec.parse(text))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("dark-rde", UnknownName, "did you mean 'dark-red'"),
        ("blue", UnknownName, "known: dark-red"),
        ("", UnknownName, "unknown colour ''"),
        ("dark-red:depth=1,DEPTH=2", UsageError, "twice"),
        ("dark-red:depth=0", UsageError, "at least 1"),
        ("dark-red++:shade=blue", UnknownName, "unknown shade 'blue'"),
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
def test_bad_specs(registry: Registry[Colour], text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        registry.spec(text)
    assert "\n" not in str(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), UsageError)  # noqa: S301


def test_registration_is_strict(registry: Registry[Colour]) -> None:
    for name, message in (
        ("dark-red", "twice"),
        ("Dark-red", "kebab"),
        ("dark_red", "kebab"),
        ("light-red", "function"),
    ):
        with pytest.raises(UsageError, match=message):
            registry.add(Colour(name, dark_red))
