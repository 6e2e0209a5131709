"""Settings are declared once: their check, their YAML file, their options and their words follow from the field."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from heatproof.cli import commands
from heatproof.errors import FileError, UnknownName, UsageError
from heatproof.pipeline.manifest import claim, read_plan
from heatproof.pipeline.plan import Plan, configured, identity
from heatproof.registry import Spec
from heatproof.settings import (
    Range,
    Setting,
    create,
    options,
    plain,
    quoted,
    read,
    setting,
    split,
    text,
    typed,
    words,
    write,
)
from heatproof.studies.options import StudyOptions


@dataclass(frozen=True)
class More(Plan):
    """A plan with an option that nothing else knows."""

    sharpness: float | None = setting(
        None, Setting("How sharp maps are.", "TIMES", "How to judge", range=Range(0, 10, open=True))
    )
    colours: tuple[Spec, ...] = setting((), Setting("Fills by another name.", "A,B", names="fills", decides="report"))
    mode: Literal["plain", "fancy"] = setting("plain", Setting("How maps look."))


def run(*arguments: str, **more: Any) -> Any:
    app = typer.Typer()
    commands.add(app, More)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "250"}, **more)


# An option that is added to the dataclass is everywhere


@pytest.mark.parametrize("command", ["run", "study"])
def test_a_new_field_is_an_option_of_its_commands(command: str, tmp_path: Path) -> None:
    shown = run(command, "--help").output
    for option in options(More).values():
        if option.name not in ("net", "recipe", "case_class") or command == "run":
            assert f" {option.flag} " in shown
    assert "How sharp maps are." in shown
    (tmp_path / "in.yaml").write_text("sharpness: 2\ncolours: blur\n")
    words = ("--config", str(tmp_path / "in.yaml"), "--mode", "fancy", "--write-config", str(tmp_path / "out.yaml"))
    done = run(command, *words)
    assert done.exit_code == 0, done.exception
    assert configured(More, tmp_path / "out.yaml", {}) == More(sharpness=2.0, colours=(Spec("blur"),), mode="fancy")
    assert "# How sharp maps are.\nsharpness: 2.0\n" in (tmp_path / "out.yaml").read_text()


def test_a_new_field_is_checked_and_typed_and_belongs_to_the_identity() -> None:
    for wrong in ("0", "10", "nan"):
        with pytest.raises(UsageError, match=r"sharpness: got .*, expected a number above 0 and below 10"):
            More(sharpness=float(wrong))
    with pytest.raises(UsageError, match="mode: got 'bold', expected one of plain, fancy"):
        create(More, {"mode": "bold"})
    with pytest.raises(UnknownName, match="did you mean 'blur'"):
        configured(More, None, {"colours": ("blurr",)})
    plan = create(More, {"sharpness": 2.5, "colours": ["blur:radius=2", "mean"]})
    assert plan.command() == "heatproof run --sharpness 2.5 --colours blur:radius=2,mean"
    assert identity(plan)["sharpness"] == 2.5
    assert "colours" not in identity(plan)


@pytest.mark.parametrize("name", [f.name for f in fields(Plan)])
def test_every_field_says_what_it_is(name: str) -> None:
    option = options(Plan)[name]
    assert option.setting.help.endswith(".")
    assert option.setting.metavar or option.kind is bool
    assert inspect.getdoc(Plan) is not None


# Values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed: got -1, expected a number from 0 to 9,223,372,036,854,775,807"),
        ({"seed": True}, "seed: got True, expected a whole number"),
        ({"seed": 1.0}, "seed: got 1.0, expected a whole number"),
        ({"limit": 0}, "limit: got 0, expected at least 1"),
        ({"level": 95}, "level: got 95, expected a number above 0 and below 1"),
        ({"keep": "much"}, "keep: got 'much', expected a number"),
        ({"controls": 1}, "controls: got 1, expected true or false"),
        ({"methods": 3}, "methods: got 3, expected a list of names"),
        ({"methods": ["edge", 3]}, "methods: got ['edge', 3], expected a list of names"),
        ({"methods": ["edge", ""]}, "methods: got '', expected a name"),
        ({"methods": ["edge:smooth"]}, "has no value"),
        ({"data": 3}, "data: got 3, expected a name"),
        ({"path": 3}, "path: got 3, expected text"),
        ({"classes": "x" * 10**6 + "\n", "seed": {}}, "seed: got {}"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        create(Plan, values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_values_are_left_as_they_are_held() -> None:
    values = {"methods": ["edge", Spec("random")], "data": "hmt:size=64", "layer": "features.3", "keep": None}
    plan = create(Plan, values)
    assert plan.methods == (Spec("edge"), Spec("random"))
    assert plan.data == Spec("hmt", (("size", 64),))
    assert plan.layer == ("features.3",)
    assert create(StudyOptions, {"methods": None}) == StudyOptions()


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
OPTIONS = st.dictionaries(
    st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.integers(-9, 99) | st.booleans() | st.floats(0.1, 9), max_size=2
)
SPECS = st.tuples(st.from_regex(r"[a-z]{1,6}(-[a-z]{1,4})?", fullmatch=True), OPTIONS)
VALUES = st.fixed_dictionaries(
    {
        "methods": st.lists(SPECS, max_size=3),
        "metrics": st.lists(SPECS, max_size=3),
        "classes": st.lists(NAMES, max_size=3),
        "layer": st.lists(NAMES, max_size=2),
        "keep": st.none() | st.floats(0.01, 0.99),
        "target": st.none() | st.integers(0, 9) | st.just("label"),
        "controls": st.booleans(),
        "seed": st.integers(0, 2**63 - 1),
        "limit": st.none() | st.integers(1, 99),
    }
)


@settings(deadline=None)  # files are written
@given(VALUES)
def test_a_plan_is_the_same_after_a_file_and_after_its_command(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    for name in ("methods", "metrics"):
        values[name] = [Spec(key, tuple(sorted(more.items()))) for key, more in values[name]]
    plan, folder = create(Plan, values), tmp_path_factory.mktemp("plan")
    assert create(Plan, read(write(folder / "plan.yaml", plan), Plan)) == plan
    claim(folder / "run", plan)
    assert read_plan(folder / "run") == plan
    for name, option in options(Plan).items():
        value = getattr(plan, name)
        if value not in (None, ()) and option.kind is not bool:
            numbers = {int: int, float: float}.get(option.kind, str)
            assert typed(option, numbers(text(option, value))) == value
    assert shlex.split(plan.command())[2:] == words(plan)


def test_what_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="target: got a list, which no file can hold"):
        plain(StudyOptions(target=[0, 1]))


# Files


@pytest.mark.parametrize(
    ("page", "error", "message"),
    [
        ("metric: deletion", UnknownName, "did you mean 'metrics'"),
        ("limit: many", UsageError, "limit: got 'many', expected a whole number"),
        ("- deletion", UsageError, "expected lines like 'seed: 1'"),
        ("", UsageError, "expected lines like"),
        ("metrics: [", FileError, "is not YAML"),
        ("seed: 1\nseed: 2", UsageError, "'seed' more than once"),
        ("a: &a [x, x]\nmethods: [*a, *a]", UsageError, "uses YAML aliases"),
        ("methods: !!python/object/apply:os.system [ls]", FileError, "is not YAML"),
        ("seed: 2020-01-01", UsageError, "seed: got "),
        ("? [a, b]\n: 1", FileError, "is not YAML"),
        ("methods: " + "[" * 5000, FileError, "nested too deeply"),
        ("seed: " + "9" * 5000, FileError, "is not YAML"),
        ("methods: [" + "edge, " * 200_000 + "edge]", FileError, "larger than 1 MB"),
        ("\xff", FileError, "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, page: str, error: type[Exception], message: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(page.encode("latin-1"))
    with pytest.raises(error) as caught:
        read(path, Plan)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        read(tmp_path / "none.yaml", Plan)


def test_what_is_typed_takes_precedence_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("seed: 3\nself_checks: false\nmethods: [edge]\nlimit: null\n")
    assert configured(Plan, path, {}) == Plan(seed=3, self_checks=False, methods=(Spec("edge"),))
    assert configured(Plan, path, {"seed": 0, "self_checks": True}) == Plan(methods=(Spec("edge"),))


# What is typed


@pytest.mark.parametrize(
    ("texts", "specs"),
    [
        ("", ()),
        ("deletion", ("deletion",)),
        ("deletion, insertion", ("deletion", "insertion")),
        ("average-drop:keep=0.3,ties=drop,deletion", ("average-drop:keep=0.3,ties=drop", "deletion")),
    ],
)
def test_lists_of_specs_are_split_between_specs_only(texts: str, specs: tuple[str, ...]) -> None:
    assert split(texts) == specs


def test_an_option_needs_a_name() -> None:
    with pytest.raises(UsageError, match="stands before any name"):
        split("keep=0.3")


def test_names_with_commas_stand_in_double_quotes() -> None:
    names = ("benign", "in situ, low grade", 'the "rest"')
    assert quoted('benign, "in situ, low grade", "the ""rest"""') == names
    assert quoted(" , ") == ()
    typed_words = words(Plan(model="net.h5", classes=names))
    assert quoted(typed_words[typed_words.index("--classes") + 1]) == names
    for wrong in ('"in situ, low grade', '"in situ" low, grade'):
        with pytest.raises(UsageError, match="around whole names"):
            quoted(wrong)
