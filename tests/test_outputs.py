"""How the outputs of models are read: small networks that end in many forms, against the logits they were made of."""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.errors import InputError, NotApplicable
from heatproof.methods import explain
from heatproof.probe import Contrast, Goal, Kind, Probe, Task, predicted, probe_for

from .toys import CLASSES, Plain, Tokens, Wrapped, inputs, ready

Form = Callable[[Tensor], Any]


class Ending(nn.Module):
    """A small network whose logits go through a function; how the function's modules are called does not matter."""

    def __init__(self, form: Form, columns: int = CLASSES) -> None:
        super().__init__()
        self.body, self.form = ready(Plain(2, classes=columns)), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.body(x))


def written_over(function: str) -> Form:
    def form(z: Tensor) -> Tensor:
        z = z.clone()
        getattr(z, function)()
        return z

    return form


def into(function: Any, **options: Any) -> Form:
    def form(z: Tensor) -> Tensor:
        if torch.is_grad_enabled() and z.requires_grad:
            return function(z, **options)  # torch has no gradients for out=
        out = torch.empty_like(z)
        function(z, out=out, **options)
        return out

    return form


def copied(z: Tensor) -> Tensor:
    out = torch.empty_like(z)
    out[:] = z.softmax(1)
    return out


SOFTMAX: dict[str, Form] = {
    "module": nn.Softmax(1),
    "module, last axis": nn.Softmax(-1),
    "function": lambda z: F.softmax(z, 1),
    "by keyword": lambda z: F.softmax(input=z, dim=-1),
    "torch": lambda z: torch.softmax(z, 1),
    "special": lambda z: torch.special.softmax(z, 1),
    "method": lambda z: z.softmax(-1),
    "aten": lambda z: torch.ops.aten.softmax.int(z, 1),
    "softmin": lambda z: F.softmin(-z, 1),
    "out": into(torch.softmax, dim=1),
    "copied": copied,
    "flattened": lambda z: z.softmax(1).flatten(1),
    "axes in front": lambda z: z[:, :, None, None].softmax(1).squeeze(-1).squeeze(-1),
    "axes behind": lambda z: z.softmax(1)[:, :, None, None],
    "channels last": lambda z: z[:, None, None].softmax(-1)[:, 0, 0],
    "squeezed": lambda z: z.softmax(1)[:, None].squeeze(),
    "view": lambda z: z.softmax(1).view(z.shape[0], 2, -1).reshape(z.shape[0], -1),
    "transposed": lambda z: z.t().softmax(0).t(),
    "property": lambda z: z.t().softmax(0).T,
    "clone": lambda z: z.softmax(1).clone().contiguous(),
    "cast": lambda z: z.double().softmax(1).float().to(torch.float32),
    "dropout": lambda z: F.dropout(z.softmax(1), 0.5, training=False),
    "identity": lambda z: nn.Identity()(z.softmax(1)),
    "cat of one": lambda z: torch.cat([z.softmax(1)]),
    "stack of one": lambda z: torch.stack([z.softmax(1)]).squeeze(0),
    "exponential": lambda z: z.log_softmax(1).exp(),
    "in place": lambda z: z.log_softmax(1).exp_(),
    "clamped": lambda z: z.softmax(1).clamp(1e-7, 1 - 1e-7),
    "a gate before": lambda z: (z + 0 * z.sigmoid()).softmax(1),
    "in double precision": lambda z: torch.softmax(z, dim=1, dtype=torch.float64),
    "samples apart": lambda z: torch.stack([row.softmax(0) for row in z]),
    "parts": lambda z: torch.cat(z.softmax(1).chunk(1, dim=1), 1),
}
LOG_SOFTMAX: dict[str, Form] = {
    "module": nn.LogSoftmax(1),
    "function": lambda z: F.log_softmax(z, dim=1),
    "method": lambda z: z.log_softmax(-1),
    "logarithm": lambda z: z.softmax(1).log(),
    "torch": lambda z: torch.log(torch.softmax(z, 1)),
}
SIGMOID: dict[str, Form] = {
    "module": nn.Sigmoid(),
    "function": lambda z: F.sigmoid(z),
    "torch": torch.sigmoid,
    "method": lambda z: z.sigmoid(),
    "special": torch.special.expit,
    "in place": written_over("sigmoid_"),
    "in place, again": lambda z: z.clone().sigmoid_(),
    "out": into(torch.sigmoid),
    "module, then flatten": nn.Sequential(nn.Sigmoid(), nn.Flatten()),
    "view": lambda z: z.sigmoid().view(z.shape[0], -1),
    "squeezed": lambda z: z[:, :, None].sigmoid().squeeze(2),
    "exponential": lambda z: F.logsigmoid(z).exp(),
    "reversed": lambda z: 1 - torch.sigmoid(-z),
    "cast": lambda z: z.sigmoid().double(),
    "logarithm": lambda z: F.logsigmoid(z),
    "log of a sigmoid": lambda z: z.sigmoid().log(),
}


def check(model: nn.Module, kind: Kind, z: Tensor, x: Tensor, *, exact: bool = True) -> None:
    """The kind; the logits, up to a constant a row where they are those of classes by numbers; and their gradients."""
    probe = Probe(model, layer="body.relu2")
    assert probe.outputs_for(x).trouble is None, probe.outputs_for(x).trouble
    assert probe.outputs_for(x).kind == kind
    got, task = probe.logits(x), probe.task(x)
    if not exact and task == "classes":
        got, z = got.log_softmax(1), z.log_softmax(1)
    torch.testing.assert_close(got, z, rtol=1e-4, atol=1e-4)
    want = z.sigmoid() if task == "labels" else z.softmax(1)
    torch.testing.assert_close(probe.probabilities(x), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probe.probabilities(x[:1]), want[:1], rtol=1e-4, atol=1e-5)
    for target in range(z.shape[1]):
        torch.testing.assert_close(probe.scores(x, target), want[:, target], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_softmax_in_every_form(name: str) -> None:
    model, x = Ending(SOFTMAX[name]).eval(), inputs(2)
    check(model, "probabilities", model.body(x).detach(), x)
    probe = Probe(model, layer="body.relu2")
    plain = Probe(model.body, layer="relu2")
    assert "softmax" in probe.outputs_for(x).reason
    torch.testing.assert_close(probe.gradient(x, 1), plain.gradient(x, 1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(probe.taps(x, 1)[1], plain.taps(x, 1)[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOG_SOFTMAX)
def test_a_log_softmax_in_every_form(name: str) -> None:
    model, x = Ending(LOG_SOFTMAX[name]).eval(), inputs(2)
    check(model, "log-probabilities", model.body(x).detach(), x)
    want = Probe(model.body).gradient(x, 1)
    torch.testing.assert_close(Probe(model).gradient(x, 1), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SIGMOID)
@pytest.mark.parametrize("columns", [1, 3])
def test_a_sigmoid_in_every_form(name: str, columns: int) -> None:
    model, x = Ending(SIGMOID[name], columns).eval(), inputs(2)
    z = model.body(x).detach()
    if columns == 1:
        check(model, "binary-probability", torch.cat([-z / 2, z / 2], 1), x)
    else:
        check(model, "label-probabilities", z, x)
    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(model.body(leaf)[:, -1].sum(), leaf)
    got = Probe(model).gradient(x, columns if columns == 1 else columns - 1)
    torch.testing.assert_close(got, want / 2 if columns == 1 else want, rtol=1e-4, atol=1e-6)


class Gated(Plain):
    """A sigmoid gate that is registered, and called, last, beside logits that it did not make."""

    def __init__(self, **options: Any) -> None:
        super().__init__(2, **options)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Any:
        h = self.mean(self.features(x)).flatten(1)
        z = self.dense(h)
        self.gate(h)
        return z


def test_a_gate_and_an_attention_made_no_output() -> None:
    x = inputs(2)
    for model in (ready(Gated()), ready(Tokens(fused=False))):
        part = x[..., :8, :12].contiguous()
        assert Probe(model).outputs_for(part).kind == "logits"
        torch.testing.assert_close(Probe(model).logits(part), model(part).detach())
    gated = Wrapped(ready(Plain(2)), lambda z: z * z.sigmoid()).eval()
    assert Probe(gated).outputs_for(x).kind == "logits"
    with pytest.raises(InputError, match=r"outputs='binary-logit'.*outputs='regression'"):
        Probe(ready(Gated(classes=1))).logits(x)


# By numbers

NUMBERS: dict[str, tuple[Form, Kind]] = {
    "softmax by hand": (lambda z: z.exp() / z.exp().sum(1, keepdim=True), "probabilities"),
    "softmax of distances": (lambda z: (e := (z - z.amax(1, keepdim=True)).exp()) / e.sum(1, True), "probabilities"),
    "log by hand": (lambda z: z - z.exp().sum(1, keepdim=True).log(), "log-probabilities"),
    "mean of two": (lambda z: torch.stack([z.softmax(1), z.softmax(1)]).mean(0), "probabilities"),
    "smoothed log": (lambda z: (z.softmax(1) + 1e-9).log(), "log-probabilities"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_what_only_numbers_tell(name: str) -> None:
    form, kind = NUMBERS[name]
    model, x = Ending(form).eval(), inputs(2)
    check(model, kind, model.body(x).detach(), x, exact=False)


def test_a_softmax_of_a_softmax() -> None:
    """What stood before the last softmax gives the model's own probabilities."""
    model, x = Ending(lambda z: z.softmax(1).softmax(1)).eval(), inputs(2)
    assert Probe(model).outputs_for(x).kind == "probabilities"
    torch.testing.assert_close(Probe(model).probabilities(x), model(x).detach())


class Areas(nn.Module):
    """Values and weights of several positions, put together to one number a column, after a form."""

    def __init__(self, form: Callable[..., Tensor], columns: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.weigh = nn.Conv1d(2, columns, 3), nn.Conv1d(2, 1, 3)
        self.dense, self.form = nn.Linear(columns, columns), form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(self, self.conv(x), self.weigh(x))


def shares(w: Tensor) -> Tensor:
    return w / w.sum(2, keepdim=True)


TREE = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
MIXED: dict[str, tuple[Callable[..., Tensor], Kind | None]] = {
    "attention pooling": (lambda m, v, w: torch.bmm(w.softmax(2), v.sigmoid().transpose(1, 2))[:, 0], None),
    "experts": (lambda m, v, w: torch.einsum("nt,nkt->nk", w[:, 0].softmax(1), v.sigmoid()), None),
    "ancestors": (lambda m, v, w: v.mean(2).softmax(1) @ TREE.t(), None),
    "a stochastic matrix": (lambda m, v, w: F.linear(v.mean(2).sigmoid(), m.dense.weight.softmax(1)), None),
    "shares": (lambda m, v, w: (shares(w.relu() + 0.01) * v.sigmoid()).sum(2), None),
    "shares by matrix": (lambda m, v, w: (v.sigmoid() @ shares(w.relu() + 0.01).transpose(1, 2))[:, :, 0], None),
    "a stochastic matrix over a softmax": (
        lambda m, v, w: F.linear(v.mean(2).softmax(1), m.dense.weight.softmax(0)),
        "probabilities",
    ),
    "evidence": (
        lambda m, v, w: (lambda alpha: alpha / alpha.sum(1, keepdim=True))(F.softplus(v.mean(2)) + 1),
        "probabilities",
    ),
    "attention": (lambda m, v, w: m.dense((w.softmax(2) @ v.transpose(1, 2))[:, 0]), "logits"),
    "open attention": (lambda m, v, w: (w.softmax(2) @ v.transpose(1, 2))[:, 0], "logits"),
    "sigmoids inside": (lambda m, v, w: m.dense(v.mean(2).sigmoid()), "logits"),
    "tanh inside": (lambda m, v, w: m.dense(v.mean(2).tanh()), "logits"),
    "a gate": (lambda m, v, w: m.dense((v * v.mean(2, keepdim=True).sigmoid()).relu().mean(2)), "logits"),
    "a hard gate": (lambda m, v, w: m.dense((v * F.hardsigmoid(w)).relu().mean(2)), "logits"),
}


@pytest.mark.parametrize("name", MIXED)
def test_weights_may_keep_probabilities_what_they_are(name: str) -> None:
    form, kind = MIXED[name]
    model, x = Areas(form).eval(), torch.randn(6, 2, 9, generator=torch.Generator().manual_seed(1))
    probe = Probe(model)
    if kind is None:
        with pytest.raises(InputError, match=r"outputs='label-probabilities'.*outputs='logits'"):
            probe.logits(x)
        probe = Probe(model, outputs="label-probabilities")
        torch.testing.assert_close(probe.probabilities(x), model(x).detach(), rtol=1e-4, atol=1e-5)
        return
    assert probe.outputs_for(x).kind == kind, probe.outputs_for(x)
    want = model(x).detach()
    torch.testing.assert_close(probe.probabilities(x), want.softmax(1) if kind == "logits" else want)


SURE = 0.9975


def part_filled(z: Tensor) -> Tensor:
    p = z.softmax(1)
    for i in range(len(p)):
        if float(p[i].detach().max()) < SURE:
            p[i].fill_(0.25)
    return p


def part_zeroed(z: Tensor) -> Tensor:
    p = z.sigmoid()
    p[:, 0].zero_()
    return p


def rows_written_over(z: Tensor) -> Tensor:
    p = 1 * z
    for row in p:
        row.sigmoid_()
    return p


WRITTEN: dict[str, tuple[Form, Kind | None]] = {
    "clamped": (lambda z: z.sigmoid().clamp(0.2, 0.8), None),
    "clamped from above": (lambda z: z.sigmoid().clip(max=torch.tensor(0.6)), None),
    "clamped in place": (lambda z: z.sigmoid().clamp_(0.3), None),
    "clamped logarithms": (lambda z: F.logsigmoid(z).clamp_min(-1).exp(), None),
    "clamped a little": (lambda z: z.sigmoid().clamp_min(1e-6), "label-probabilities"),
    "clamped logarithms, a little": (lambda z: z.log_softmax(1).clamp(min=torch.tensor(-40.0)), "log-probabilities"),
    "a column": (part_zeroed, None),
    "rows": (rows_written_over, None),
    "unsure samples": (part_filled, "probabilities"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_over_is_no_softmax_any_more(name: str) -> None:
    form, kind = WRITTEN[name]
    model, x = Ending(lambda z: form(3 * z)).eval(), inputs(2, 12)
    if kind is None:
        with pytest.raises(InputError, match=r"outputs='label-probabilities'.*outputs='logits'"):
            Probe(model).logits(x)
        return
    want = model(x).detach()
    want = want.exp() if kind == "log-probabilities" else want
    for batch in (None, 1):
        probe = Probe(model, batch=batch)
        assert probe.outputs_for(x).kind == kind
        torch.testing.assert_close(probe.probabilities(x[1:]), want[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("saturated", [1.0, 200.0])
def test_two_classes_from_one_sigmoid(saturated: float) -> None:
    for form in (
        lambda z: torch.stack([1 - z.sigmoid(), z.sigmoid()], 1)[..., 0],
        lambda z: torch.cat([1 - z.sigmoid(), z.sigmoid()], 1),
    ):
        model, x = Ending(lambda z, form=form: form(saturated * z), 1).eval(), inputs(2)
        z = saturated * model.body(x).detach()
        probe = Probe(model)
        assert probe.outputs_for(x).kind == "probabilities"
        want = torch.cat([1 - z.sigmoid(), z.sigmoid()], 1)
        torch.testing.assert_close(probe.probabilities(x), want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(probe.gradient(x, 1), saturated / 2 * _slope(model, x), rtol=1e-4, atol=1e-5)


def test_two_sigmoids_are_labels_unless_they_are_made_of_one() -> None:
    """That they sum to one by accident, as those of a head of zeros do, says nothing; nor does it for a softmax."""
    x = inputs(2)
    for form, kind in (
        (torch.sigmoid, "label-probabilities"),
        (lambda z: torch.cat([1 - z.sigmoid()[:, :1], z.sigmoid()[:, 1:]], 1), "label-probabilities"),
        (lambda z: (lambda p: torch.cat([1 - p, p], 1).log())(z[:, :1].sigmoid()), "log-probabilities"),
        (lambda z: torch.stack([z, 2 * z], 2).softmax(2)[..., 0], None),
        (lambda z: z.sigmoid() @ torch.eye(2), None),
    ):
        model = Ending(form, 2).eval()
        zero, probe = model.body.dense, Probe(model)
        with torch.no_grad():
            zero.weight.zero_()
            zero.bias.zero_()
            probe.outputs_for(x)
            zero.weight.normal_(std=5, generator=torch.Generator().manual_seed(0))
            zero.bias.fill_(2)
        for asked in (probe, Probe(model)):
            assert asked.outputs_for(x).kind == (kind or "logits")
            if kind is None:
                with pytest.raises(InputError, match="outputs="):
                    asked.logits(x)
                continue
            want = model(x).detach()
            want = want.exp() if kind == "log-probabilities" else want
            torch.testing.assert_close(asked.probabilities(x), want, rtol=1e-4, atol=1e-5)


def _slope(model: Any, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model.body(leaf).sum(), leaf)[0]


def test_the_second_of_two_probabilities() -> None:
    for form in (lambda z: z.softmax(1)[:, 1], lambda z: z.softmax(1)[:, 1:], lambda z: z.softmax(1).unbind(1)[1]):
        model, x = Ending(form, 2).eval(), inputs(2)
        probe = Probe(model)
        assert probe.outputs_for(x).kind == "binary-probability"
        torch.testing.assert_close(probe.probabilities(x), model.body(x).softmax(1).detach(), rtol=1e-4, atol=1e-5)
        z = model.body(x).detach()
        torch.testing.assert_close(probe.logits(x)[:, 1] * 2, z[:, 1] - z[:, 0], rtol=1e-4, atol=1e-4)


class Lying(nn.Module):
    """Logits that are whatever is asked for."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.dense = nn.Linear(2, rows.shape[1])
        self.rows = nn.Parameter(rows)

    def forward(self, x: Tensor) -> Any:
        pick = F.one_hot(x[:, 0, 0, 0].long(), len(self.rows)).float()
        return pick @ self.rows


def _numbered(n: int) -> Tensor:
    return torch.arange(n).float()[:, None, None, None].expand(n, 2, 4, 4).clone()


def test_logits_between_0_and_1_are_no_probabilities() -> None:
    rows = torch.tensor([[0.2, 0.9, 0.4], [0.1, 0.3, 0.3], [0.8, 0.7, 0.6]])
    probe = Probe(Lying(rows))
    assert probe.outputs_for(_numbered(3)).kind == "logits"
    torch.testing.assert_close(probe.logits(_numbered(3)), rows)


def test_logits_that_sum_to_one_are_refused() -> None:
    """A linear layer over probabilities may give probabilities: neither operations nor numbers decide alone."""
    probe = Probe(Lying(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])))
    with pytest.raises(InputError, match=r"outputs='logits'.*outputs='probabilities'"):
        probe.logits(_numbered(2))
    # by chance for the first sample only: the others tell
    rows = torch.tensor([[0.2, 0.5, 0.3], [0.1, 1.3, 0.6]])
    torch.testing.assert_close(Probe(Lying(rows)).logits(_numbered(2)), rows)


def scripted(model: nn.Module, x: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(model, x[:2])


def test_scripted_models_go_by_numbers() -> None:
    x, body = inputs(2, 6), ready(Plain(2))
    z = body(x).detach()
    for form, kind in (
        (nn.Identity(), "logits"),
        (nn.Softmax(1), "probabilities"),
        (nn.LogSoftmax(1), "log-probabilities"),
    ):
        probe = Probe(scripted(nn.Sequential(body, form), x), engine="plain")
        assert probe.outputs_for(x).kind == kind
        torch.testing.assert_close(probe.probabilities(x), z.softmax(1), rtol=1e-4, atol=1e-5)
    model = scripted(nn.Sequential(body, nn.Sigmoid()), x)
    with pytest.raises(InputError, match=r"outputs='label-probabilities'.*outputs='logits'"):
        Probe(model, engine="plain").logits(x)
    probe = Probe(model, engine="plain", outputs="label-probabilities")
    torch.testing.assert_close(probe.logits(x), z, rtol=1e-3, atol=1e-3)
    one = scripted(nn.Sequential(ready(Plain(2, classes=1)), nn.Sigmoid()), x)
    with pytest.raises(InputError, match="outputs='binary-probability'"):
        Probe(one, engine="plain").logits(x)


class Hidden(Lying):
    """A detour through NumPy, where no operation is seen."""

    def forward(self, x: Tensor) -> Any:
        return torch.from_numpy(super().forward(x).numpy().copy())


def test_a_reading_by_numbers_is_checked_on_what_follows() -> None:
    rows = torch.tensor([[0.2, 0.5, 0.3], [0.1, 1.3, 0.6]])
    assert Probe(Hidden(rows)).outputs_for(_numbered(2)).kind == "logits"
    probe = Probe(Hidden(rows))
    assert probe.outputs_for(_numbered(1)).kind == "probabilities"
    with pytest.raises(InputError, match=r"outputs='logits' or outputs='probabilities'"):
        probe.logits(_numbered(2))


def test_masked_classes() -> None:
    mask = torch.tensor([False, True, False, False])
    for form in (nn.Softmax(1), nn.LogSoftmax(1)):
        model, x = Ending(lambda z, form=form: form(z.masked_fill(mask, -torch.inf))).eval(), inputs(2)
        want = model.body(x).detach().masked_fill(mask, -torch.inf)
        torch.testing.assert_close(Probe(model).probabilities(x), want.softmax(1))
        assert bool(torch.isfinite(Probe(model).logits(x)).all())


def test_saturated_outputs_are_read_right() -> None:
    for form, columns, kind in (
        (lambda z: (200 * z).softmax(1), 3, "probabilities"),
        (lambda z: (200 * z).sigmoid(), 3, "label-probabilities"),
        (lambda z: (200 * z).sigmoid(), 1, "binary-probability"),
    ):
        model, x = Ending(form, columns).eval(), inputs(2)
        probe, z = Probe(model, score="logit"), 200 * model.body(x).detach()
        assert probe.outputs_for(x).kind == kind
        want = torch.cat([-z / 2, z / 2], 1) if columns == 1 else z
        torch.testing.assert_close(probe.logits(x), want, rtol=1e-4, atol=1e-2)
        assert float(probe.gradient(x, 0).abs().max()) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_types(dtype: torch.dtype) -> None:
    x = inputs(2)
    for form, columns, kind in (
        (nn.Softmax(1), 50, "probabilities"),
        (nn.LogSoftmax(1), 50, "log-probabilities"),
        (lambda z: z.exp() / z.exp().sum(1, True), 20, "probabilities"),
        (nn.Sigmoid(), 5, "label-probabilities"),
        (nn.Sigmoid(), 1, "binary-probability"),
        (nn.Identity(), 5, "logits"),
    ):
        model = Ending(form, columns).eval().to(dtype)
        probe = Probe(model)
        assert probe.outputs_for(x).kind == kind, (probe.outputs_for(x).trouble, kind)
        assert probe.logits(x).dtype == torch.float32
        assert bool(torch.isfinite(probe.logits(x)).all())
    coarse = Ending(lambda z: (lambda e: e / e.sum(1, keepdim=True))(z.exp()), 5).eval().to(dtype)
    for n in range(5):  # what rounding leaves of a sum of one is no reason to refuse other samples
        Probe(coarse).probabilities(torch.randn(40, *x.shape[1:], generator=torch.Generator().manual_seed(n)))


def test_percentages_of_one_sample_are_refused() -> None:
    model, x = Ending(lambda z: 100 * z.exp() / z.exp().sum(1, True)).eval(), inputs(2, 1)
    with pytest.raises(InputError, match="shares of one"):
        Probe(model).logits(x)
    assert Probe(Ending(lambda z: z.exp()).eval()).outputs_for(inputs(2)).kind == "logits"


def test_autocast() -> None:
    model, x = Ending(nn.Softmax(1)).eval(), inputs(2)
    probe = Probe(model, autocast=torch.bfloat16)
    torch.testing.assert_close(probe.probabilities(x), model(x).detach(), rtol=0.1, atol=0.05)


# What is refused

REFUSED: dict[str, tuple[Form, int, str]] = {
    "over the batch": (lambda z: z.softmax(0), 4, "dim=1"),
    "over one column": (lambda z: z.softmax(1), 1, "length one"),
    "over positions": (lambda z: torch.stack([z, 2 * z], 2).softmax(2)[..., 0], 4, "do not|no probabilities"),
    "the first of two": (lambda z: z.softmax(1)[:, 0], 2, "not the second of two"),
    "one of four": (lambda z: z.softmax(1)[:, 1], 4, "not the second of two"),
    "percentages": (lambda z: 100 * z.softmax(1), 4, r"made of a softmax.*outputs='logits'"),
    "percentages by hand": (
        lambda z: 100 * z.exp() / z.exp().sum(1, True),
        4,
        "sum to 100.*shares of one.*outputs='lo",
    ),
    "halves by hand": (lambda z: z.exp() / z.exp().sum(1, True) / 2, 4, "sum to 0.5.*shares of one"),
    "binary logarithms": (lambda z: z.softmax(1).log2(), 4, "powers of 2.*natural logarithms.*outputs='logits'"),
    "decimal logarithms": (lambda z: z.softmax(1).log10(), 4, "powers of 10 .*natural logarithms"),
    "from -1 to 1": (lambda z: 2 * z.sigmoid() - 1, 4, r"made of a softmax or sigmoid"),
    "two softmaxes": (lambda z: torch.cat([z[:, :2].softmax(1), z[:, 2:].softmax(1)], 1), 4, "do not|no probabilities"),
    "some classes": (lambda z: z.softmax(1)[:, :2], 4, "no probabilities"),
    "one bare column": (lambda z: z, 1, "outputs='binary-logit'.*outputs='regression'"),
    "one bare number": (lambda z: z[:, 0], 1, "outputs='binary-logit'"),
    "a clipped number": (lambda z: F.hardtanh(z, 0, 1), 1, "outputs='binary-probability'"),
    "hard sigmoids": (F.hardsigmoid, 4, "outputs='label-probabilities'.*outputs='logits'"),
    "sigmoid by hand": (lambda z: 1 / (1 + (-z).exp()), 4, "outputs='label-probabilities'"),
    "a segmentation": (lambda z: z[:, :, None, None].expand(-1, -1, 5, 5), 4, "every position.*target"),
    "a sequence": (lambda z: z[:, :, None].expand(-1, -1, 5), 4, "every position.*target"),
    "integers": (lambda z: z.argmax(1), 4, "class scores"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    form, columns, message = REFUSED[name]
    model, x = Ending(form, columns).eval(), inputs(2)
    for ask in (Probe(model).logits, Probe(model).probabilities, Probe(model).task, Probe(model).gradient):
        with pytest.raises(InputError, match=message) as caught:
            ask(x)
        assert "\n" not in str(caught.value)
    for method in ("saliency", "grad-cam", "occlusion"):
        with pytest.raises(InputError, match=message):
            explain(Probe(model, layer="body.relu2"), x, method)
    assert "not decided" in str(Probe(model, layer="body.relu2").describe(x))


@pytest.mark.parametrize(
    ("outputs", "columns", "message"),
    [
        ("binary-logit", 4, "one column"),
        ("binary-probability", 4, "one column"),
        ("logits", 1, "two or more classes"),
        ("probabilities", 4, "no class probabilities"),
        ("log-probabilities", 4, "no logarithms"),
        ("label-probabilities", 4, "no one probability|no probabilit|are no"),
        ("softmax", 4, "no entry 'softmax'"),
        ("0:logits", 4, "no entry '0'"),
    ],
)
def test_a_statement_that_does_not_fit(outputs: str, columns: int, message: str) -> None:
    model = Ending(lambda z: 3 * z, columns).eval()
    with pytest.raises(InputError, match=message):
        Probe(model, outputs=outputs).logits(inputs(2))


def test_an_unknown_kind_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="expected one of logits, probabilities"):
        Probe(ready(Plain(2)), outputs="head:odds")


# Statements


def test_outputs_as_stated() -> None:
    x, one, four = inputs(2), Ending(nn.Identity(), 1).eval(), Ending(nn.Identity()).eval()
    z = one.body(x).detach()
    torch.testing.assert_close(Probe(one, outputs="binary-logit").logits(x), torch.cat([-z / 2, z / 2], 1))
    torch.testing.assert_close(Probe(one, outputs="regression").logits(x), z)
    torch.testing.assert_close(Probe(one, outputs="label-logits").logits(x), z)
    assert Probe(one, outputs="regression").task(x) == "regression"
    assert Probe(four, outputs="label-logits").task(x) == "labels"
    torch.testing.assert_close(Probe(four, outputs="label-logits").probabilities(x), four(x).detach().sigmoid())
    assert "outputs=" in Probe(four, outputs="label-logits").outputs_for(x).reason
    soft = Ending(nn.Softmax(1)).eval()
    probe = Probe(soft, outputs="logits")
    torch.testing.assert_close(probe.logits(x), soft(x).detach())
    assert "although the model ends in a softmax" in str(probe.outputs_for(x))


def test_a_card_and_the_settings_of_a_hugging_face_model() -> None:
    x, one, four = inputs(2), Ending(nn.Identity(), 1).eval(), Ending(nn.Identity()).eval()
    object.__setattr__(one, "card", SimpleNamespace(outputs="binary-logit"))
    assert Probe(one).outputs_for(x).kind == "binary-logit"
    assert "card" in Probe(one).outputs_for(x).reason
    assert Probe(one, outputs="regression").outputs_for(x).kind == "regression"
    for problem, kind in (
        ("multi_label_classification", "label-logits"),
        ("single_label_classification", "logits"),
        (None, "logits"),
        ("regression", "regression"),
    ):
        four.config = SimpleNamespace(problem_type=problem, num_labels=CLASSES)
        assert Probe(four).outputs_for(x).kind == kind
    four.config = SimpleNamespace(problem_type="regression", num_labels=7)
    assert Probe(four).outputs_for(x).kind == "logits"


# Nested outputs


@dataclass
class Parts:
    logits: Tensor
    attention: Tensor


class Record:
    def __init__(self, z: Tensor) -> None:
        self.logits, self.hidden = z, [z]


Pair = namedtuple("Pair", ["scores", "hidden"])
NESTED: dict[str, tuple[Form, str | None]] = {
    "tuple": (lambda z: (z, z[:, :, None, None].expand(-1, -1, 3, 3)), "0"),
    "tuple of one": (lambda z: (z,), "0"),
    "list": (lambda z: [z], "0"),
    "with a None": (lambda z: (None, z), "1"),
    "dict": (lambda z: {"features": z[:, :2], "logits": z}, "logits"),
    "only one": (lambda z: {"prediction": z, "hidden": [z, z]}, "prediction"),
    "dataclass": (lambda z: Parts(z, z), "logits"),
    "record": (Record, "logits"),
    "named tuple": (lambda z: Pair(z, (z,)), "scores"),
    "nested": (lambda z: {"head": {"logits": z}, "loss": z.sum()}, "head.logits"),
    "a key with logits": (lambda z: {"cls_logits": z, "embedding": z[:, :2]}, "cls_logits"),
    "with a loss": (lambda z: (z, z.mean()), "0"),
    "with a state": (lambda z: (z.relu()[None], z), "1"),
    "with probabilities": (lambda z: (z.softmax(1), z), "1"),
    "the same twice": (lambda z: (z, z), "0"),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_outputs(name: str) -> None:
    form, entry = NESTED[name]
    model, x = Ending(form).eval(), inputs(2)
    probe = Probe(model)
    assert probe.outputs_for(x).entry == entry
    assert probe.outputs_for(x).kind == "logits"
    torch.testing.assert_close(probe.logits(x), model.body(x).detach())
    torch.testing.assert_close(probe.logits(x[:1]), model.body(x[:1]).detach())


def test_an_entry_by_name() -> None:
    x = inputs(2)
    model = Ending(lambda z: {"a": z, "b": {"c": z[:, :2].sigmoid()}, "d": [z[:, :3].softmax(1)]}).eval()
    with pytest.raises(InputError, match=r"a \(N, 4\), b\.c \(N, 2\).*outputs='a'"):
        Probe(model).logits(x)
    torch.testing.assert_close(Probe(model, outputs="a").logits(x), model.body(x).detach())
    probe = Probe(model, outputs="b.c")
    assert probe.outputs_for(x).kind == "label-probabilities"
    torch.testing.assert_close(probe.logits(x), model.body(x)[:, :2].detach(), rtol=1e-4, atol=1e-5)
    probe = Probe(model, outputs="d.0")
    assert probe.outputs_for(x).kind == "probabilities"
    torch.testing.assert_close(probe.logits(x), model.body(x)[:, :3].detach(), rtol=1e-4, atol=1e-5)
    assert Probe(model, outputs="a:label-logits").task(x) == "labels"
    with pytest.raises(InputError, match=r"no entry 'e'; it has a, b\.c, d\.0"):
        Probe(model, outputs="e").logits(x)


# Batches of one


@pytest.mark.parametrize("columns", [1, 4])
def test_a_model_that_squeezes_its_output(columns: int) -> None:
    """The batch axis of a single sample is lost; one row is still one sample."""
    model = Ending(lambda z: (z.sigmoid() if columns == 1 else z).squeeze(), columns).eval()
    x, body = inputs(2), model.body
    for batch in (None, 1, 2):
        probe = Probe(model, batch=batch)
        z = body(x).detach()
        want = torch.cat([-z / 2, z / 2], 1) if columns == 1 else z
        torch.testing.assert_close(probe.logits(x), want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(probe.scores(x, 1), want.softmax(1)[:, 1], rtol=1e-4, atol=1e-5)


def test_samples_that_are_run_one_by_one() -> None:
    """Whatever the batch, the logits are the same."""
    x = inputs(2, 5)
    for form, columns in (
        (lambda z: torch.stack([row.softmax(0) for row in z]), 4),
        (lambda z: torch.cat([row[None].log_softmax(1) for row in z]), 4),
        (lambda z: torch.stack([row.softmax(0)[1] for row in z]), 2),
        (lambda z: torch.stack([row.sigmoid() for row in z]), 3),
        (lambda z: torch.stack([row[0].sigmoid() for row in z]), 1),
    ):
        model = Ending(form, columns).eval()
        z = model.body(x).detach()
        want = torch.cat([-z / 2, z / 2], 1) if columns == 1 else (z - z.flip(1)) / 2 if columns == 2 else z
        for batch in (None, 1, 2):
            torch.testing.assert_close(Probe(model, batch=batch).logits(x), want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(Probe(model).gradient(x, 1), Probe(model, batch=1).gradient(x, 1))


# Goals


def test_goals_by_task() -> None:
    z = torch.tensor([[1.0, 3.0, -2.0], [5.0, 0.0, 4.0]])
    labels = Goal.of(2, z, "labels")
    assert labels.task == "labels"
    torch.testing.assert_close(labels.score(z, "probability"), z[:, 2].sigmoid())
    torch.testing.assert_close(labels.score(z, "logit"), z[:, 2])
    assert labels.take(slice(0, 1)).task == "labels"
    gap = Goal.of(Contrast(2, 0), z, "labels")
    torch.testing.assert_close(gap.score(z, "logit"), z[:, 2] - z[:, 0])
    numbers = Goal.of([0, 2], z, "regression")
    for score in ("probability", "logit"):
        torch.testing.assert_close(numbers.score(z, score), torch.tensor([1.0, 4.0]))  # type: ignore[arg-type]
    single = Goal.of(None, z[:, :1], "regression")
    torch.testing.assert_close(single.score(z[:, :1], "probability"), z[:, 0])
    assert predicted(z, "classes").tolist() == predicted(z, "labels").tolist() == [1, 0]
    assert predicted(z[:, :1], "regression").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("target", "task", "columns", "message"),
    [
        (3, "labels", 3, "target label 3 is out of range; the model has 3 labels, 0 to 2"),
        (3, "regression", 3, "target output 3 is out of range; the model has 3 outputs, 0 to 2"),
        (1, "regression", 1, "regression with one output.*leave the target out"),
        (0, "regression", 1, "leave the target out"),
        (None, "regression", 3, "regression with 3 outputs; name the one"),
        (Contrast(0, 1), "regression", 3, "Contrast: the model is a regression"),
        (Contrast(1, 1), "labels", 3, "a label is held against itself"),
        ([0, 1, 2], "labels", 3, "one label a sample"),
        (torch.tensor(0.5), "regression", 3, "whole output numbers"),
        (3, "classes", 3, "target class 3 is out of range; the model has 3 classes, 0 to 2"),
    ],
)
def test_targets_that_do_not_fit_the_task(target: Any, task: Task, columns: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Goal.of(target, torch.randn(2, columns), task)


def test_a_regression_is_explained_by_its_output() -> None:
    x = inputs(2)
    for columns, target in ((1, None), (3, 2)):
        model = Ending(nn.Identity(), columns).eval()
        probe = Probe(model, layer="body.relu2", outputs="regression")
        want = model.body(x).detach()[:, columns - 1]
        torch.testing.assert_close(probe.scores(x, target), want)
        torch.testing.assert_close(probe.scored(x, probe.goal(x, target)), want, rtol=1e-4, atol=1e-5)
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.body(leaf)[:, columns - 1].sum(), leaf)
        torch.testing.assert_close(probe.gradient(x, target), slope, rtol=1e-4, atol=1e-6)
        with pytest.raises(InputError, match="no probabilities"):
            probe.probabilities(x)
        for method in ("grad-cam", "ablation-cam", "score-cam", "occlusion", "saliency"):
            assert bool(torch.isfinite(explain(probe, x, method, target=target)).all())
        for method in ("finer-cam", "shapley-cam"):
            with pytest.raises(NotApplicable, match="regression"):
                explain(probe, x, method, target=target)


def test_labels_are_explained_each_by_itself() -> None:
    """Adding to another label's logit changes nothing."""
    x, model = inputs(2), Ending(torch.sigmoid, 3).eval()
    other = Ending(lambda z: torch.sigmoid(z + torch.tensor([0.0, 3.0, 9.0])), 3).eval()
    for method in ("grad-cam", "hires-cam", "ablation-cam", "score-cam", "occlusion", "shapley-cam", "saliency"):
        one, two = (explain(Probe(m, layer="body.relu2"), x, method, target=0) for m in (model, other))
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)
    finer = explain(Probe(model, layer="body.relu2"), x, "finer-cam", target=0)
    assert bool(torch.isfinite(finer).all())


def test_a_goal_without_a_task_takes_that_of_the_model() -> None:
    x, model = inputs(2), Ending(torch.sigmoid, 3).eval()
    probe, z = Probe(model), model.body(x).detach()
    goal = Goal(torch.tensor([0, 1, 2]))
    want = z.sigmoid()[range(3), range(3)]
    torch.testing.assert_close(probe.scored(x, goal), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probe.scores(x, goal), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probe.variants(x, goal, 1, lambda n, _: x[n])[:, 0], want, rtol=1e-4, atol=1e-5)


# Two classes from one number


@pytest.mark.parametrize("form", ["binary-logit", "binary-probability"])
def test_both_classes_of_a_binary_model_are_explained(form: Kind) -> None:
    """Class 0 is explained by -z/2: pitfall 28, where all its gradients were zero."""
    x = inputs(2)
    model = Ending(nn.Sigmoid() if form == "binary-probability" else nn.Identity(), 1).eval()
    two = nn.Linear(6, 2)
    with torch.no_grad():
        two.weight.copy_(torch.cat([-model.body.dense.weight / 2, model.body.dense.weight / 2]))
        two.bias.copy_(torch.cat([-model.body.dense.bias / 2, model.body.dense.bias / 2]))
    twin = ready(Plain(2, classes=1))
    twin.dense = two
    probe = Probe(model, layer="body.relu2", outputs=form)
    comparing = ("ablation-cam", "occlusion", "score-cam", "recipro-cam")
    methods = [f"{name}:score={kind}" for name in comparing for kind in ("margin", "probability", "logit")]
    for method in ("saliency", "grad-cam", "hires-cam", *methods):
        for target in (0, 1, None):
            want = explain(Probe(twin, layer="relu2"), x, method, target=target)
            maps = explain(probe, x, method, target=target)
            torch.testing.assert_close(maps, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()) + 1e-7)
    assert float(explain(probe, x, "hires-cam", target=0).abs().max()) > 0


# What the samples tell


@pytest.mark.parametrize(
    ("form", "columns", "task", "classes", "kind"),
    [
        (nn.Identity(), 1, "classes", 2, "binary-logit"),
        (nn.Identity(), 1, "regression", 1, "regression"),
        (nn.Identity(), 1, "labels", 1, "label-logits"),
        (nn.Identity(), 4, "classes", 4, "logits"),
        (nn.Identity(), 4, "labels", 4, "label-logits"),
        (nn.Sigmoid(), 4, "labels", 4, "label-probabilities"),
        (nn.Sigmoid(), 1, "labels", 1, "label-probabilities"),
        (nn.Sigmoid(), 1, "classes", 2, "binary-probability"),
        (nn.Sigmoid(), 1, "regression", 1, "regression"),
        (nn.Softmax(1), 4, "classes", 4, "probabilities"),
        (F.hardsigmoid, 4, "labels", 4, None),
        (F.hardsigmoid, 4, "classes", 4, "logits"),
        (nn.Softmax(1), 4, "labels", 4, None),
        (nn.Softmax(1), 4, "regression", 1, None),
        (nn.Identity(), 4, "regression", 1, None),
        (nn.Identity(), 1, "classes", 3, None),
        (nn.Sigmoid(), 4, "classes", 4, None),
    ],
)
def test_samples_settle_what_is_open(form: Form, columns: int, task: Task, classes: int, kind: Kind | None) -> None:
    model, x = Ending(form, columns).eval(), inputs(2)
    probe = Probe(model, layer="body.relu2")
    if kind is None:
        with pytest.raises(InputError, match="outputs="):
            probe_for(probe, x, task, classes)
        return
    fitted = probe_for(probe, x, task, classes)
    assert fitted.outputs_for(x).kind == kind
    assert fitted.task(x) == task
    assert fitted.layer == probe.layer


def test_a_linear_number_between_0_and_1_is_no_probability() -> None:
    for rows in (torch.tensor([[0.2], [0.7]]), torch.tensor([[0.2]])):
        for model in (Lying(rows), nn.Sequential(Lying(rows), nn.Flatten(0))):
            assert probe_for(Probe(model), _numbered(len(rows)), "classes", 2).outputs == "binary-logit"


def test_samples_do_not_overrule_a_statement() -> None:
    model, x = Ending(nn.Identity(), 1).eval(), inputs(2)
    with pytest.raises(InputError, match=r"one real number each.*one logit"):
        probe_for(Probe(model, outputs="binary-logit"), x, "regression", 1)
    nested = Ending(lambda z: {"score": z}, 1).eval()
    assert probe_for(Probe(nested), x, "classes", 2).outputs == "score:binary-logit"


# Values that are no numbers


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_name_the_sample(bad: float) -> None:
    class Broken(Plain):
        def forward(self, x: Tensor) -> Any:
            return torch.where(x[:, :1, 0, 0] > 50, bad, super().forward(x))

    model, x = ready(Broken(2)), inputs(2, 5)
    x[3, 0, 0, 0] = 100
    for batch in (None, 2):
        probe = Probe(model, layer="relu2", batch=batch)
        for ask in (
            lambda probe: probe.logits(x),
            lambda probe: probe.probabilities(x),
            lambda probe: probe.gradient(x),
            lambda probe: probe.scored(x, Goal(torch.zeros(5, dtype=torch.int64))),
            lambda probe: explain(probe, x, "grad-cam"),
            lambda probe: explain(probe, x, "saliency", target=1),
            lambda probe: explain(probe, x, "occlusion"),
        ):
            with pytest.raises(InputError, match=r"NaN or infinite.*number 3") as caught:
                ask(probe)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="number 0"):
        Probe(model).logits(x[3:])


# What is shown


@pytest.mark.parametrize("form", [lambda z: z.softmax(1), torch.sigmoid, lambda z: z.log_softmax(1)])
def test_a_model_that_ends_otherwise_than_it_did_is_refused(form: Any) -> None:
    """What decides it is no part of the model, so that only its outputs show the change."""
    state = {"form": form}
    model, x = Ending(lambda z: state["form"](9 * z)).eval(), inputs(2)
    probe = Probe(model)
    probe.probabilities(x)
    state["form"] = lambda z: z + 5
    for ask in (probe, Probe(model)):
        with pytest.raises(InputError, match="something that it reads has changed"):
            ask.probabilities(x)


@pytest.mark.parametrize("method", ["saliency", "occlusion:window=0.5,stride=0.5", "rise:masks=20"])
@pytest.mark.parametrize("frozen", [False, True])
def test_torchscript_is_explained_without_layers(method: str, frozen: bool) -> None:
    model, x = ready(Plain(2)), inputs(2)
    script = scripted(model, x)
    if frozen:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script = torch.jit.freeze(script)
    torch.testing.assert_close(explain(script, x, method), explain(model, x, method), rtol=1e-3, atol=1e-5)


def test_a_description() -> None:
    model, x = Ending(nn.Softmax(1)).eval(), inputs(2)
    text = str(Probe(model).describe(x))
    assert "class probabilities (the model ends in a softmax)" in text
    assert "2 x 10 x 12" in text
    assert "Layer body.relu2" in text
    described = Probe(nn.Sequential(nn.Flatten(), nn.Linear(240, 3))).describe(x)
    assert described.layer == ""
    assert "no convolution" in described.notes[0]


def test_the_model_is_left_as_it_was() -> None:
    model, x = Ending(nn.Softmax(1)).train(), inputs(2)
    state = torch.random.get_rng_state()
    Probe(model).gradient(x)
    assert model.training
    assert model.form.training
    assert torch.equal(state, torch.random.get_rng_state())
