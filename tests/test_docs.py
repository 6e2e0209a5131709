"""The pages say what is so: generated ones are current, links lead somewhere, the README's example runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from heatproof.methods import default_controls, methods
from heatproof.metrics import families, metrics
from heatproof.pipeline.registries import registry

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def generator() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["methods.md", "metrics.md", "data.md", "cli.md"])
def test_generated_pages_are_current(name: str) -> None:
    pages = generator()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == pages.NOTE + pages.PAGES[name](), "run `make docs`"


def test_the_pages_show_every_entry_with_all_that_is_declared() -> None:
    pages = generator()
    page = pages.metrics()
    for name in metrics:
        entry = metrics[name]
        about = page.split(f"### `{name}`\n")[1].split("\n#")[0]
        for head, text in (("Tells", entry.tells), ("Cannot tell", entry.cannot), ("Mind", entry.mind)):
            assert f"- **{head}:** {text}\n" in about
        assert ("Sanity check" in about) is (entry.must_change_with is not None)
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        f"## {family.name.capitalize()}" for family in families.declared
    ]
    assert all(f"| `{name}` |" in pages.methods() for name in methods)
    assert all(methods[name].description in pages.methods() for name in default_controls())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_commands_in_the_readme_exist() -> None:
    commands = set(re.findall(r"^    heatproof (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M))
    assert commands >= {"run", "study", "list"}
    pages = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert all(f"## heatproof {command}" in pages for command in commands)


def test_names_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for kind in ("methods", "metrics"):
        for names in re.findall(rf"--{kind} (\S+)", text):
            assert set(names.split(",")) <= set(registry(kind))


def test_the_page_of_architecture_names_every_room_and_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    source = ROOT / "src" / "heatproof"
    rooms = {path.stem for path in [*source.glob("*.py"), *source.glob("*/__init__.py")]} - {
        "__init__",
        "__main__",
        "facade",
    }
    rooms |= {path.parent.name for path in source.glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/?` \|", page, flags=re.M)) == rooms
    for room, text in re.findall(r"^- \*\*`(\w+)/`\*\*((?:.|\n(?!\n|- ))*)", page, flags=re.M):
        modules = {path.stem for path in (source / room).glob("*.py")} - {"__init__"}
        assert modules <= set(re.findall(r"`(\w+)/?`", text)), room


def test_the_readmes_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    smaller = {
        "hp.data.mnist1d()": "hp.data.mnist1d(samples=200)",
        'hp.train("mnist1d")': 'hp.train("mnist1d:samples=200", epochs=1)',
    }
    for long, short in smaller.items():
        assert source.count(long) == 1
        source = source.replace(long, short)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)
    printed = [line for line in capsys.readouterr().out.splitlines() if "training" not in line and line.strip()]
    assert 0 <= float(printed[-2]) <= 1
    assert "cam" in printed[-1]
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_page_on_loading_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "loading-a-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "loading-a-model.md", "exec"), names)
