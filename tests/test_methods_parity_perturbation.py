"""Values of segments beside those of captum, which gets the same segments, fill and sets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heatproof.methods import explain
from heatproof.segments import segments as slic

from .toys import Plain, inputs, ready

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # imports deprecated names of NumPy or matplotlib
    captum_attr = pytest.importorskip("captum.attr")
    linear = pytest.importorskip("captum._utils.models.linear_model")

pytestmark = pytest.mark.filterwarnings("ignore::Warning:captum", "ignore::Warning:sklearn")
COUNT = 4


def setting(rank: int) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A model, inputs, their segments, and their means as captum's baselines."""
    x = inputs(rank, 2)
    mean = x.double().flatten(2).mean(2).reshape(*x.shape[:2], *(1,) * rank).expand(x.shape)
    return ready(Plain(rank)).double(), x, slic(x, COUNT), mean.contiguous()


def close(rank: int, text: str, theirs: list[Tensor]) -> None:
    """Our maps, logits being compared as captum does, beside captum's values of every channel of a position."""
    model, x, _, _ = setting(rank)
    maps = explain(model, x, text, target=1)
    for map, value in zip(maps, theirs, strict=True):
        torch.testing.assert_close(map.double(), value[0, 0].double(), rtol=1e-4, atol=1e-5 * float(value.abs().max()))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_segment_ablation_agrees_with_captum(rank: int) -> None:
    model, x, labels, mean = setting(rank)
    theirs = [
        captum_attr.FeatureAblation(model).attribute(
            x[i : i + 1].double(), baselines=mean[i : i + 1], target=1, feature_mask=labels[i][None, None]
        )
        for i in range(2)
    ]
    close(rank, f"segment-ablation:segments={COUNT},score=logit", theirs)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["kernel-shap", "shapley-sampling"])
def test_shapley_values_agree_with_captum(name: str, rank: int) -> None:
    """Captum goes through all orders."""
    model, x, labels, mean = setting(rank)
    shapley = captum_attr.ShapleyValues(model)
    theirs = [
        shapley.attribute(
            x[i : i + 1].double(),
            baselines=mean[i : i + 1],
            target=1,
            feature_mask=labels[i][None, None],
            perturbations_per_eval=16,
        )
        for i in range(2)
    ]
    close(rank, f"{name}:segments={COUNT},score=logit", theirs)


def every_set(_: Any, **options: Any) -> Iterator[Tensor]:
    """All sets of segments, as captum asks for samples."""
    k = options["num_interp_features"]
    for code in range(2**k):
        yield torch.tensor([[float(code >> i & 1) for i in range(k)]], dtype=torch.float64)


def regression(rank: int, kind: str) -> list[Tensor]:
    """Captum's own regressions over all sets of segments."""

    def kernel(_: Tensor, __: Tensor, kept: Tensor, **___: Any) -> Tensor:
        size, k = int(kept.sum()), kept.shape[1]
        if kind == "lime":
            return torch.tensor(math.exp(-((1 - math.sqrt(size / k)) ** 2) / (2 * 0.25**2)))
        inner = 0 < size < k
        return torch.tensor((k - 1) / (math.comb(k, size) * size * (k - size)) if inner else 1e6)

    model, x, labels, mean = setting(rank)
    peer = (
        captum_attr.Lime(model, linear.SkLearnRidge(alpha=1.0), similarity_func=kernel, perturb_func=every_set)
        if kind == "lime"
        else captum_attr.KernelShap(model)
    )
    peer.perturb_func, peer.similarity_func = every_set, kernel
    return [
        peer.attribute(
            x[i : i + 1].double(),
            baselines=mean[i : i + 1],
            target=1,
            feature_mask=labels[i][None, None],
            n_samples=2 ** (int(labels[i].max()) + 1),
            perturbations_per_eval=8,
        )
        for i in range(2)
    ]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["kernel-shap", "lime"])
def test_regressions_over_all_sets_agree_with_captum(name: str, rank: int) -> None:
    close(rank, f"{name}:segments={COUNT},score=logit", regression(rank, name))
