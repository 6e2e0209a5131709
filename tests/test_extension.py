"""The code of the how-to pages: each extension is one short declaration, and found everywhere with no other edit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heatproof as hp
from heatproof.cli import main
from heatproof.data.catalogue import datasets
from heatproof.errors import NotApplicable
from heatproof.facade import Results, study
from heatproof.fills import fills
from heatproof.methods import default_controls, methods
from heatproof.methods import names as method_names
from heatproof.metrics import Case, families, follows_fill, metric, metrics, needs_donors
from heatproof.metrics import names as metric_names
from heatproof.registry import Spec
from heatproof.studies.options import StudyOptions

from .test_docs import generator
from .toys import Plain, inputs, ready

ROOT = Path(__file__).parents[1]
LONGEST = 30  # lines of an extension
BLOCKS = {
    page.name: re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for page in sorted(ROOT.glob("docs/adding-a-*.md"))
}
SOURCES = [(page, source) for page, sources in BLOCKS.items() for source in sources]
ADDED = {
    "methods": {"positive-grad-cam", "squared-gradient", "ramp"},
    "metrics": {"late-deletion", "negated-parameters", "plausible-share"},
    "fills": {"largest"},
    "data": {"steps"},
}


def share_above_the_middle() -> None:
    """A metric of the family that a how-to page declares."""

    @metric("plausible-share", better="higher", family="plausibility", range=(0, 1))
    def plausible_share(case: Case) -> Tensor:
        """The share of positions with more than half of the largest relevance.

        Tells: how much of the input the map marks.
        Cannot: whether these positions are the right ones.
        Mind: a uniform map has the largest value.
        """
        flat = case.map.flatten(1)
        return (flat > flat.amax(1, keepdim=True) / 2).double().mean(1)


@pytest.fixture
def extended() -> Iterator[None]:
    """The extensions of all how-to pages, registered for one test."""
    with ExitStack() as stack:
        for registry in (methods, families, metrics, fills, datasets):
            stack.enter_context(registry.temporarily())  # type: ignore[attr-defined]
        for page, source in SOURCES:
            exec(compile(source, page, "exec"), {})
        share_above_the_middle()
        yield


def test_the_pages_show_one_of_each_kind(extended: None) -> None:
    for kind, registry in (("methods", methods), ("metrics", metrics), ("fills", fills), ("data", datasets)):
        assert ADDED[kind] <= set(registry), kind
    assert "plausibility" in families
    assert methods["positive-grad-cam"].family == "cam"
    assert methods["ramp"].control
    assert metrics["late-deletion"].curve is not None
    assert metrics["negated-parameters"].must_change_with == "parameters"


def test_nothing_is_left_behind() -> None:
    for kind, registry in (("methods", methods), ("metrics", metrics), ("fills", fills), ("data", datasets)):
        assert not ADDED[kind] & set(registry), kind
    assert "plausibility" not in families


@pytest.mark.parametrize(("page", "source"), SOURCES, ids=[f"{page}-{i}" for i, (page, _) in enumerate(SOURCES)])
def test_an_extension_is_short(page: str, source: str) -> None:
    assert len(source.splitlines()) <= LONGEST


def test_the_contract_tests_would_run_them(extended: None) -> None:
    """Contract tests are parametrised by these lists."""
    assert ADDED["methods"] <= set(method_names())
    assert ADDED["metrics"] <= set(metric_names())
    assert "positive-grad-cam" in method_names(family="cam", control=False)
    assert metric_names(family="plausibility") == ["plausible-share"]
    assert default_controls()[-1] == "ramp"


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_methods_work_in_every_rank(extended: None, rank: int) -> None:
    model, x = ready(Plain(rank)), inputs(rank, 3)
    maps = hp.explain(model, x, ["PositiveGradCAM", "squared_gradient", "Ramp"])
    assert set(maps) == ADDED["methods"]
    for name, map in maps.items():
        low, high = methods[name].range
        assert map.shape == (3, *x.shape[2:])
        assert low == 0
        assert float(map.min()) >= 0
        assert high is None or float(map.max()) <= high


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_metrics_and_fills_work_in_every_rank(extended: None, rank: int) -> None:
    model, x = ready(Plain(rank)), inputs(rank, 3)
    explain: Any = partial(hp.explain, method="saliency")
    map = hp.explain(model, x, "saliency")
    for name in sorted(ADDED["metrics"]):
        values = hp.score(model, x, map, name, fill="Largest", explain=explain)
        low, high = metrics[name].range
        assert values.shape == (3,)
        assert bool(((values >= low) & (values <= high)).all())


def test_what_a_metric_needs_is_read_off_its_registration(extended: None) -> None:
    assert follows_fill(Spec("late-deletion"))
    assert not follows_fill(metrics.spec("late-deletion:fill=Largest"))
    assert str(metrics.spec("LateDeletion:Fill=Largest")) == "late-deletion:fill=largest"
    assert not follows_fill(Spec("negated-parameters"))
    assert needs_donors(metrics.spec("late-deletion:fill=donor"))
    assert not needs_donors(metrics.spec("late-deletion:fill=largest"))


def test_a_metric_may_need_donors() -> None:
    with metrics.temporarily():

        @metric("pool-size", better="higher", family="axioms", needs=("donors",))
        def pool_size(case: Case) -> Tensor:
            """How many donors there are."""
            assert case.pool is not None
            return torch.full((len(case.x),), float(len(case.pool)), dtype=torch.float64)

        model, x = ready(Plain(1)), inputs(1, 3)
        assert needs_donors(Spec("pool-size"))
        assert hp.score(model, x, x[:, 0], "pool-size", fill=x).tolist() == [3.0] * 3
        with pytest.raises(NotApplicable, match="other samples"):
            hp.score(model, x, x[:, 0], "pool-size")


@pytest.mark.parametrize("kind", ADDED)
def test_the_command_line_lists_them(
    extended: None, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list", kind]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ADDED[kind])
    assert ("plausibility" in printed) is (kind == "metrics")


def test_the_pages_of_the_docs_show_them(extended: None) -> None:
    pages = generator()
    assert all(f"| `{name}` |" in pages.methods() for name in ADDED["methods"])
    assert "| a rising ramp | yes | 0 to 1 |" in pages.methods()
    assert all(f"| `{name}` |" in pages.metrics() for name in ADDED["metrics"])
    assert "## Plausibility\n\nWhether the map looks as people expect.\n" in pages.metrics()
    assert "- **Cannot tell:** whether the most relevant positions are in the right order.\n" in pages.metrics()
    assert "its map with random weights lies above 0.9.\n" in pages.metrics()
    assert all(f"| `{name}` |" in pages.data() for name in (*ADDED["fills"], *ADDED["data"]))


@pytest.fixture
def results(extended: None) -> Results:
    """A study of the added methods on the added data, by the added metrics and fill."""
    model: nn.Module = ready(Plain(1, channels=1, classes=2))
    splits = hp.data.load("Steps:samples=24")
    return study(
        model,
        splits.test,
        ["PositiveGradCAM", "squared_gradient", "grad-cam"],
        ["Late_Deletion:steps=4", "negated-parameters", "plausible-share"],
        options=StudyOptions(fills=(fills.spec("Largest"),)),
        progress=False,
    )


def test_a_study_takes_them(results: Results) -> None:
    assert results.methods == ("positive-grad-cam", "squared-gradient", "grad-cam")
    assert results.controls == default_controls()
    assert "ramp" in results.controls
    assert results.metrics == ("late-deletion:steps=4", "negated-parameters", "plausible-share")
    assert results.about["fill"] == "largest"
    assert not results.skips
    assert all(np.isfinite(values).all() for values in results.scores.values())
    assert ("ramp", "late-deletion:steps=4") in results.curves
    assert results.family("plausible-share") == "plausibility"


def test_the_verdict_and_the_report_show_them(results: Results, tmp_path: Path) -> None:
    verdict = results.verdict()
    assert [check.method for check in verdict.methods] == list(results.methods)
    assert verdict.trusted == ()
    assert results.judgement.comparable == ("late-deletion:steps=4", "plausible-share")
    assert {"ramp", "random"} <= {row.method for row in results.ranking("late-deletion:steps=4").controls}
    page = results.report(tmp_path / "report.html").read_text(encoding="utf-8")
    written = re.sub(r"<wbr>", "", page)
    for name in (*results.methods, "ramp", *results.metrics, "plausibility", "largest", "steps"):
        assert name in written


def test_a_case_answers_what_the_page_says(extended: None) -> None:
    """Each question in the table of adding-a-metric.md is a public attribute of a case."""
    page = (ROOT / "docs" / "adding-a-metric.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`case\.(\w+)", page))
    assert len(names) >= 10
    assert all(hasattr(Case, name) or name in Case.__dataclass_fields__ for name in names)
