"""Imports point downwards, heavy packages have one home, and importing heatproof is cheap."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import heatproof

SOURCE = Path(heatproof.__file__).parent
LAYERS = (
    {"errors", "registry", "records", "draws", "memory", "files", "fingerprint"},
    {"spatial", "segments", "stats", "workers"},
    {"probe", "fills", "nets"},
    {"data", "methods", "metrics", "masks", "plots"},
    {"results", "models", "training", "performance", "studies", "verdict"},
    {"report"},
    {"pipeline"},
    {"cli", "app"},
)
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
MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(file: Path) -> str:
    """The name of the top-level module or package a file belongs to."""
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module imported anywhere in a file, those for type checkers only left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imports(node)


def layer_of(part: str) -> int:
    return next(i for i, parts in enumerate(LAYERS) if part in parts)


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_downwards_and_heavy_packages_have_one_home(file: Path) -> None:
    part = part_of(file)
    if part == "__init__":
        return
    assert any(part in parts for parts in LAYERS), f"{part} has no layer; add it to LAYERS and to docs/architecture.md"
    for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
        package, _, rest = name.partition(".")
        assert package not in HOMES or part in HOMES[package], f"{name} belongs into {HOMES[package]}"
        other = rest.partition(".")[0]
        if package != "heatproof" or not any(other in parts for parts in LAYERS) or other == part:
            continue
        assert layer_of(other) <= layer_of(part), f"{part} must not import {other}, which lies above it"
        assert not any({part, other} <= parts for parts in BLIND), f"{part} and {other} must not know of each other"


def test_probe_alone_hooks_and_traces_models() -> None:
    words = ("register_forward_hook", "register_full_backward_hook", "register_forward_pre_hook", "symbolic_trace")
    found = {part_of(f) for f in MODULES if any(w in f.read_text(encoding="utf-8") for w in words)}
    assert found <= {"probe", "models"}


def test_no_module_has_a_vague_name() -> None:
    assert not {f.stem for f in MODULES} & VAGUE


def test_modules_stay_small() -> None:
    long = {str(f.relative_to(SOURCE)): n for f in MODULES if (n := len(f.read_text().splitlines())) > 450}
    assert not long


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
