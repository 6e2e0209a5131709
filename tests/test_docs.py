"""The pages say what is so: generated ones are current, links lead somewhere, the README's example runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from heatproof import pipeline

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
    made = generator()
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == made.NOTE + made.PAGES[name](), "run `make docs`"


def test_the_page_of_metrics_tells_of_each_once() -> None:
    made = generator()
    page = (ROOT / "docs" / made.TOLD).read_text(encoding="utf-8")
    assert made.untold(page) == []
    assert made.untold(page.replace("### `deletion`", "### `deletoin`")) == [
        "deletoin: no metric of that name",
        "deletion: expected once, under faithfulness; found nowhere",
    ]
    assert made.untold(page + "\n### `deletion`\n")[0].startswith("deletion: expected once, under faithfulness; found")


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
            assert set(names.split(",")) <= set(pipeline.registry(kind))


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
