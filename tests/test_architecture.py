"""Imports point downwards, heavy packages have one home, and importing heatproof is cheap."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import heatproof

SOURCE = Path(heatproof.__file__).parent
LAYERS = (
    {
        "errors",
        "annotations",
        "registry",
        "records",
        "preprocessing",
        "settings",
        "phrases",
        "draws",
        "memory",
        "files",
        "fingerprint",
        "version",
    },
    {"spatial", "segments", "stats", "workers"},
    {"probe", "fills", "nets"},
    {"data", "methods", "metrics", "masks", "plots"},
    {"results", "models"},
    {"training", "performance", "studies", "verdict"},
    {"report"},
    {"pipeline"},
    {"cli", "app"},
)
FACADE = {"__init__", "__main__", "facade"}  # may know everything; nothing imports it
# Parts of one layer that must not know of each other.
BLIND = ({"data", "methods", "metrics"}, {"cli", "app"})
HOMES = {
    "captum": {"methods"},
    "gradio": {"app"},
    "jinja2": {"report"},
    "keras": {"models"},
    "lightning": {"training"},
    "matplotlib": {"plots"},
    "onnx": {"models"},
    "pooch": {"data"},
    "ray": {"workers"},
    "rich": {"cli", "training"},
    "scikit_posthocs": {"stats"},
    "sklearn": {"performance"},
    "typer": {"cli"},
}
HEAVY = ("captum", "gradio", "keras", "lightning", "matplotlib", "pandas", "ray", "scipy", "sklearn", "tensorboard")
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc"}
# Rooms and modules whose names are gerunds or participles because the field calls them so.
CUSTOMARY = {
    "preprocessing",
    "prepared",
    "ranking",
    "training",
    "timing",
    "wording",
    "string",
    "warning",
}
EVASIVE = {"found", "known", "told", "made", "given", "some"}  # they tell how one came by a value, not what it is
LONGEST = 400  # lines of a module
# Where a module is imported by a name that is not written there, and whose name it is.
BY_NAME = {
    "__init__.py": "the public names",
    "models/factory.py": "a user's factory",
    "models/zoo.py": "torchvision and timm",
}
MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(file: Path) -> str:
    """The name of the top-level module or package a file belongs to."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def layer_of(part: str) -> int:
    return next(i for i, parts in enumerate(LAYERS) if part in parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module or name imported anywhere in a file: inside functions, for type checkers, and by a written name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            path = node.value.replace(":", ".")
            if re.fullmatch(r"heatproof(\.\w+)+", path) and file_of(path) is not None:
                yield path


def file_of(name: str) -> Path | None:
    """The file of heatproof that an imported module or name is read from; None for other packages."""
    package, *parts = name.split(".")
    if package != "heatproof":
        return None
    for end in range(len(parts), -1, -1):
        place = SOURCE.joinpath(*parts[:end])
        if place.with_suffix(".py").is_file() and end:
            return place.with_suffix(".py")
        if (place / "__init__.py").is_file():
            return place / "__init__.py" if end else None
    return None


def arrows() -> dict[Path, set[Path]]:
    """Which files each file imports; the facade left out."""
    graph = {}
    for file in MODULES:
        if part_of(file) not in FACADE:
            names = imports(ast.parse(file.read_text(encoding="utf-8")))
            graph[file] = {f for f in map(file_of, names) if f is not None and f != file}
    return graph


def circles(graph: dict[Path, set[Path]]) -> list[list[str]]:
    """The groups of files that import each other, directly or by others."""

    def reached(start: Path) -> set[Path]:
        seen, waiting = set[Path](), [start]
        while waiting:
            for nearby in graph.get(waiting.pop(), set()) - seen:
                seen.add(nearby)
                waiting.append(nearby)
        return seen

    reach = {file: reached(file) for file in graph}
    groups = {
        frozenset({file, *(other for other in reach[file] if file in reach.get(other, ()))})
        for file in graph
        if file in reach[file]
    }
    return sorted(sorted(str(file.relative_to(SOURCE)) for file in group) for group in groups)


def test_there_is_no_circle_of_files() -> None:
    assert circles(arrows()) == []


def test_a_circle_is_seen() -> None:
    a, b, c = (SOURCE / name for name in ("a.py", "b.py", "c.py"))
    assert circles({a: {b}, b: {c}, c: {a}}) == [["a.py", "b.py", "c.py"]]
    assert circles({a: {b, c}, b: {c}, c: set()}) == []


def test_every_kind_of_import_is_seen() -> None:
    source = """
import heatproof.spatial
if TYPE_CHECKING:
    from heatproof.probe import Probe
def f():
    from heatproof import draws
    importlib.import_module("heatproof.registry")
TABLE = {"x": "heatproof.records:Samples"}
"""
    files = {file_of(name) for name in imports(ast.parse(source))}
    want = ("spatial.py", "probe/__init__.py", "draws.py", "registry.py", "records.py")
    assert {SOURCE / name for name in want} <= files


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_downwards_and_heavy_packages_have_one_home(file: Path) -> None:
    part = part_of(file)
    if part in FACADE:
        return
    assert any(part in parts for parts in LAYERS), f"{part} has no layer; add it to LAYERS and to docs/architecture.md"
    for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
        package, _, rest = name.partition(".")
        assert package not in HOMES or part in HOMES[package], f"{name} belongs into {HOMES[package]}"
        other = rest.partition(".")[0]
        assert package != "heatproof" or other not in (*FACADE, ""), f"{part} must not import the facade"
        if package != "heatproof" or not any(other in parts for parts in LAYERS) or other == part:
            continue
        assert layer_of(other) <= layer_of(part), f"{part} must not import {other}, which lies above it"
        assert not any({part, other} <= parts for parts in BLIND), f"{part} and {other} must not know of each other"


def test_modules_are_imported_by_a_computed_name_in_few_places() -> None:
    places = set()
    for file in MODULES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            dynamic = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))
            if dynamic and not (node.args and isinstance(node.args[0], ast.Constant)):
                places.add(str(file.relative_to(SOURCE)))
    assert places <= set(BY_NAME)


def test_probe_alone_hooks_and_traces_models() -> None:
    words = ("register_forward_hook", "register_full_backward_hook", "register_forward_pre_hook", "symbolic_trace")
    parts = {part_of(f) for f in MODULES if any(w in f.read_text(encoding="utf-8") for w in words)}
    assert parts <= {"probe", "models"}


def test_modules_are_named_by_what_they_hold() -> None:
    stems = {f.stem for f in MODULES} | {f.parent.name for f in MODULES}
    assert not stems & VAGUE
    assert {s for s in stems if s.endswith(("ing", "ed"))} - CUSTOMARY == set()


def test_modules_stay_small() -> None:
    long = {str(f.relative_to(SOURCE)): n for f in MODULES if (n := len(f.read_text().splitlines())) > LONGEST}
    assert not long


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a file gives to something: variables, parameters, attributes, functions, classes, aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_variables_say_what_they_hold(file: Path) -> None:
    names = identifiers(ast.parse(file.read_text(encoding="utf-8")))
    assert [f"line {line}: {name}" for line, name in names if name.strip("_").lower() in EVASIVE] == []


def unsafe(call: ast.Call) -> bool:
    """Whether a call reads a file in a way that may run code hidden in it."""
    name, options = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
    if name == "torch.load":
        return options.get("weights_only") != "True"
    if name in ("np.load", "numpy.load"):
        return options.get("allow_pickle", "False") != "False"
    return name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "pd.read_pickle", "yaml.load")


def test_nothing_unpickles() -> None:
    calls = [(f, n) for f in MODULES for n in ast.walk(ast.parse(f.read_text(encoding="utf-8")))]
    assert [f"{f.name}:{n.lineno}" for f, n in calls if isinstance(n, ast.Call) and unsafe(n)] == []


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_heatproof_is_light() -> None:
    assert not loaded_by("import heatproof") & {"torch", *HEAVY}
    names = "Probe, Samples, explain, mask, load, score, data"
    assert not loaded_by(f"from heatproof import {names}") & (set(HEAVY) - {"scipy"})


def test_the_command_line_starts_without_torch() -> None:
    assert not loaded_by("import heatproof.cli") & {"torch", "numpy", *HEAVY}


def test_public_names_are_sorted_and_there() -> None:
    assert heatproof.__all__ == sorted(["__version__", *heatproof._HOMES, *heatproof._MODULES])
    assert set(heatproof.__all__) <= set(dir(heatproof))
    for name in heatproof.__all__:
        assert getattr(heatproof, name) is not None


@pytest.mark.parametrize("package", ["data", "methods", "metrics", "nets", "probe", "stats"])
def test_names_that_packages_offer_are_there(package: str) -> None:
    module = importlib.import_module(f"heatproof.{package}")
    assert module.__all__
    assert all(hasattr(module, name) for name in module.__all__)
