"""A fixed sample of the zoo, and the tool that judges it; `python -m benchmarks.zoo` runs all of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from benchmarks.zoo import oracle, page, table_signals, table_timm, table_torchvision
from benchmarks.zoo.entries import FIRST, LAST, Entry, Layout, tokens
from benchmarks.zoo.judge import judged
from benchmarks.zoo.nets import inputs, livened
from torch import nn

pytest.importorskip("timm")
pytest.importorskip("torchvision")

ENTRIES = {e.name: e for e in [*table_timm.ENTRIES, *table_signals.ENTRIES, *table_torchvision.entries()]}
SAMPLE = (
    "test_resnet", "test_convnext", "test_efficientnet", "test_vit", "test_vit_relpos", "test_mambaout", "pvt_v2_b0",
    "test_coatnet", "shufflenet_v2_x0_5", "squeezenet1_1",
    "inception_time", "tcn_last", "lstm_mean", "bilstm_mean", "lstm_state", "gru_mean", "gru_state", "cnn_lstm",
    "transformer_class_token", "transformer_last_token", "transformer_mean", "patch_tst", "ts_mixer",
    "dense_over_time",
)  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_a_network_is_explained_and_right(name: str) -> None:
    record = judged(ENTRIES[name])
    assert record["outcome"] == "right", record["reasons"]
    assert record["as_table"], record["choice"]
    assert "table" not in record, record["table"]


def test_every_family_and_every_classifier_has_an_entry() -> None:
    import timm
    from timm.models._registry import _model_to_module
    from torchvision import models

    families = {_model_to_module[name] for name in timm.list_models()}
    assert families <= {e.family for e in table_timm.ENTRIES}
    offered = models.list_models(module=models) + models.list_models(module=models.video)
    assert set(offered) == {e.name for e in table_torchvision.entries()}
    assert len({e.key for e in ENTRIES.values()}) == len(ENTRIES)
    assert len(table_signals.ENTRIES) >= 12


class Tokens(nn.Module):
    """Patches as tokens, run through row by row or column by column, with one token before them."""

    def __init__(self, columns: bool) -> None:
        super().__init__()
        self.columns = columns
        self.embed = nn.Conv2d(1, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = self.embed(x)
        rows = (grid.transpose(2, 3) if self.columns else grid).flatten(2).transpose(1, 2)
        return self.head(self.norm(torch.cat([rows.mean(1, keepdim=True), rows], dim=1)).mean(1))


@pytest.mark.parametrize("columns", [False, True])
def test_a_wrong_layout_in_the_table_is_noticed(columns: bool) -> None:
    model, x = Tokens(columns).eval(), inputs((1, 16, 16))
    plain, swapped = tokens(4, 1), Layout("tokens", 4, 1, swapped=True)
    right, wrong = (swapped, plain) if columns else (plain, swapped)
    assert oracle.located(model, x, model.norm, 1, right) == 1.0
    assert oracle.located(model, x, model.norm, 1, wrong) == 0.5
    with pytest.raises(ValueError, match="does not fit"):
        oracle.located(model, x, model.norm, 1, tokens(4))


def test_layouts_read_channels_and_positions() -> None:
    out = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert FIRST.read(out, (8, 8)) is out
    assert torch.equal(LAST.read(out, (8, 8)), out.permute(0, 3, 1, 2))
    assert Layout("line").read(out[:, :, :1], (50,)).shape == (2, 3, 5)
    rows = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)
    read = tokens(4, 1).read(rows, (8, 12))
    assert read.shape == (2, 3, 2, 3)
    assert torch.equal(read[0, :, 1, 0], rows[0, 4])
    assert torch.equal(tokens(4, 0, 1).read(rows, (8, 12))[0, :, 1, 0], rows[0, 3])


def test_the_oracle_is_the_formula_of_each_method() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 3)).double()
    x, target = inputs((1, 6, 6)).double(), torch.tensor([0, 2])
    maps = oracle.cams(model, x, model[0], 1, FIRST, target, "logits")
    with torch.no_grad():
        A = model[0](x)
    G = model[2].weight[target].reshape(2, 4, 6, 6)
    torch.testing.assert_close(maps["hires-cam"], (A * G).sum(1))
    torch.testing.assert_close(maps["grad-cam"], (A * G.mean((2, 3), keepdim=True)).sum(1).relu())
    torch.testing.assert_close(maps["saliency"], oracle.saliency(model, x, target, "logits"))
    lost = oracle.occlusion(model, x, target, 0.5, 0.5, "logits")
    covered = x.clone()
    covered[:, :, :3, :3] = 0
    with torch.no_grad():
        gap = model(x).softmax(1) - model(covered).softmax(1)
    torch.testing.assert_close(lost[:, 0, 0], gap.gather(1, target[:, None])[:, 0])
    assert bool(lost[:, 2, 2].isnan().all())


def test_errors_are_shares_of_the_scale() -> None:
    right = torch.tensor([[1.0, -4.0], [2.0, 0.0]])
    assert oracle.error(right, right) == 0.0
    assert oracle.error(right + torch.tensor([[0.0, 0.4], [0.0, 0.0]]), right) == pytest.approx(0.1)
    assert oracle.error(right * math.nan, right) == math.inf
    assert oracle.error(right + 1, torch.full_like(right, math.nan)) == 0.0


def test_networks_are_made_fit_to_be_judged() -> None:
    model = nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
                          nn.Linear(8, 5))  # fmt: skip
    nn.init.zeros_(model[1].weight)
    x = inputs((3, 40))
    assert float(x.std()) == pytest.approx(1.0)
    livened(model, x)
    assert not model.training
    assert float(model(x).detach().std(1).mean()) == pytest.approx(2.0, rel=0.01)
    assert float(model[1].weight.detach().min()) > 0


def entry(**changes: Any) -> Entry:
    """A network of two dense layers, whose layer and layout the changes may get wrong."""
    facts: dict[str, Any] = {
        "build": lambda: nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
                                       nn.Linear(8, 3)),
        "shape": (2, 30), "layers": "1", "layout": FIRST,
    }  # fmt: skip
    return Entry("signals", "test", "test", **{**facts, **changes})


def test_what_is_wrong_is_said() -> None:
    right = judged(entry())
    assert (right["outcome"], right["layer"], right["as_table"]) == ("right", "1", True)
    other = judged(entry(layers="0"))
    assert (other["outcome"], other["as_table"]) == ("not judged", False)
    assert "the table knows no layout for 1" in " ".join(other["reasons"])
    missing = judged(entry(layers="features"))
    assert missing["table"] == "no layer is named features"
    broken = judged(entry(build=lambda: nn.Linear(2, 3), shape=(2, 30)))
    assert broken["outcome"] == "broken"
    numbers = page.counts([right, other, broken])
    assert (numbers["networks"], numbers["not judged"], numbers["networks with a wrong map"]) == (3, 2, 0)
    assert numbers["explained"] == pytest.approx(1 / 3)
    assert not page.passed([right, other])
    assert page.passed([right])


def test_the_page_is_made_of_the_records() -> None:
    record = judged(entry())
    text = page.text([record])
    assert "| raw errors | 0 | 0 |" in text
    assert "| explained with no option | 100.0% | 98 % |" in text
    assert "| test | test | 2x30 | `1` | channels first 28 | 4/4 |  | right |" in text
