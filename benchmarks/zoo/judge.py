"""One network explained by heatproof and compared with the oracle: one record of plain values."""

from __future__ import annotations

import math
import resource
import statistics
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.zoo import oracle
from benchmarks.zoo.entries import Attention, Entry, Layout
from benchmarks.zoo.nets import HEAVY, gentled, inputs, livened
from torch import Tensor, nn

import heatproof as hp
from heatproof.errors import HeatproofError

CAMS = ("grad-cam", "hires-cam")
ATTENTION = ("attention-rollout", "transformer-attribution", "le-grad")
BOUND = 1e-3  # of the map's scale
NOISE = 10.0  # times the error of the same loop in float32, where the network itself is that badly conditioned
WINDOW = {1: (0.3, 0.5), 2: (0.5, 0.5), 3: (0.5, 1.0)}


def judged(entry: Entry) -> dict[str, Any]:
    """What heatproof made of the network, and whether it is right.

    Keys: outcome ("right", "wrong map", "not judged", "refused", "raw error", "broken", "not built"), reasons, layer,
    choice, as_table, layout, methods (name -> {outcome, error or reason}), passes, seconds.
    """
    start = time.perf_counter()
    record: dict[str, Any] = {
        "key": entry.key, "library": entry.library, "family": entry.family, "name": entry.name,
        "shape": list(entry.shape), "note": entry.note, "methods": {}, "reasons": [],
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _judge(entry, record)
    except Exception as error:  # of the table, the network or the oracle; heatproof's own are caught where it is called
        first = (str(error).strip().splitlines() or [""])[0][:200]
        record["reasons"].append(f"{type(error).__name__}: {first}")
        record["trace"] = traceback.format_exc()[-2000:]
        record["outcome"] = "not built" if entry.absent and "parameters" not in record else "broken"
    record["seconds"] = round(time.perf_counter() - start, 1)
    record["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    record.setdefault("outcome", _outcome(record))
    record["reasons"] += [f"{name}: {m['outcome']}, {m.get('reason')}" for name, m in record["methods"].items()
                          if m["outcome"] not in ("right", "refused rightly")]  # fmt: skip
    return record


def _outcome(record: dict[str, Any]) -> str:
    outcomes = [m["outcome"] for m in record["methods"].values()]
    for worst in ("raw error", "wrong map", "not judged"):
        if worst in outcomes:
            return worst
    if any(
        record["methods"].get(name, {}).get("outcome") == "refused"
        for name in ("build", *CAMS, "saliency", "occlusion")
    ):
        return "refused"
    return "right"


def _judge(entry: Entry, record: dict[str, Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _ask(record, "build", lambda: entry.build().eval(), own=False)
    if model is None:
        return
    record["parameters"] = sum(p.numel() for p in model.parameters())
    x = inputs(entry.shape, 2 if record["parameters"] < HEAVY and len(entry.size) < 3 else 1)
    livened(model, x, entry.outputs)
    with torch.no_grad():
        before = oracle.scores(model, x, entry.outputs)
    target = before.argmax(1)
    record["margin"] = float((before.topk(2, 1).values @ torch.tensor([1.0, -1.0])).min())

    maps, tap = _explained(entry, record, model, x)
    _logits(record, model, x, before)
    with torch.no_grad():
        after = oracle.scores(model, x, entry.outputs)
    if not torch.equal(before, after):
        _add(record, "model", "wrong map", reason="the model gives other outputs than before")
    if "grad-cam" in maps:
        record["passes"] = _passes(model, x)
    _compare(entry, record, model, x, target, maps, tap)


def _add(record: dict[str, Any], method: str, outcome: str, **facts: Any) -> None:
    if outcome == "right":
        facts.pop("reason", None)
    record["methods"][method] = {"outcome": outcome, **facts}


def _ask(record: dict[str, Any], method: str, ask: Any, *, own: bool = True) -> Any:
    """What ``ask`` gives; None where heatproof refuses or fails, which the record then says.

    ``own``: whether any other error is heatproof's.
    """
    try:
        return ask()
    except HeatproofError as error:
        lines = str(error).strip().splitlines()
        _add(record, method, "refused" if len(lines) == 1 else "raw error", reason=lines[0] if lines else "no reason")
    except Exception as error:
        if not own:
            raise
        first = (str(error).strip().splitlines() or [""])[0][:200]
        _add(
            record, method, "raw error", reason=f"{type(error).__name__}: {first}", trace=traceback.format_exc()[-1500:]
        )
    return None


def _explained(entry: Entry, record: dict[str, Any], model: nn.Module, x: Tensor) -> tuple[dict[str, Tensor], Any]:
    probe, maps = hp.Probe(model), {}
    record["choice"] = _ask(record, "choice", lambda: probe.choice(x))
    taps = _ask(record, "layer", lambda: probe.tapped(x))
    tap = taps[0] if taps else None
    record["layer"] = tap and _label(tap)
    record["as_table"] = bool(tap) and (entry.accepts(tap.name) or entry.accepts(record["layer"]))
    for method in (*CAMS, "saliency"):
        maps[method] = _ask(record, method, lambda method=method: hp.explain(model, x, method))
    window, stride = WINDOW[len(entry.size)]
    spec = f"occlusion:window={window},stride={stride},score=probability"
    maps["occlusion"] = _ask(record, "occlusion", lambda: hp.explain(model, x[:1], spec))
    for method in ATTENTION:
        maps[method] = _ask(record, method, lambda method=method: hp.explain(model, x, method))
        if entry.attention == "none" and record["methods"].get(method, {}).get("outcome") == "refused":
            record["methods"][method]["outcome"] = "refused rightly"
            break  # the others rest on the same attention
    return {name: m for name, m in maps.items() if m is not None}, tap


def _label(tap: Any) -> str:
    return f"{tap.name}@{tap.call}" if getattr(tap, "call", 1) > 1 else tap.name


def _logits(record: dict[str, Any], model: nn.Module, x: Tensor, right: Tensor) -> None:
    """The reading of the outputs: as probabilities, since logits before a softmax are right up to a constant."""
    read = _ask(record, "outputs", lambda: hp.Probe(model).probabilities(x))
    if read is None:
        return
    gap = float((read.double() - right.double().softmax(1)).abs().max()) if read.shape == right.shape else math.inf
    _add(
        record,
        "outputs",
        "right" if gap < 1e-4 else "wrong map",
        error=gap,
        reason=f"probabilities differ by {gap:.1e}",
    )


def _passes(model: nn.Module, x: Tensor) -> float:
    """Time of a warm Grad-CAM of one sample over that of a forward pass, the median of rounds."""
    image, probe = x[:1], hp.Probe(model)
    hp.explain(probe, image, "grad-cam")

    def plain() -> None:
        with torch.no_grad():
            model(image)

    def explained() -> None:
        hp.explain(probe, image, "grad-cam")

    repeats = max(1, min(20, round(0.05 / _seconds(plain, 1))))
    rounds = 3 if repeats > 1 else 2
    return round(statistics.median(_seconds(explained, repeats) / _seconds(plain, repeats) for _ in range(rounds)), 2)


def _seconds(work: Callable[[], None], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return max(time.perf_counter() - start, 1e-9)


def _compare(entry: Entry, record: dict[str, Any], model: nn.Module, x: Tensor, target: Tensor,
             maps: dict[str, Tensor], tap: Any) -> None:  # fmt: skip
    for value in model.parameters():
        value.requires_grad_(False)
    layout = None if tap is None else entry.layout_of(_label(tap), tap.module)
    if layout is None and tap is not None:
        layout = entry.layout_of(tap.name, tap.module)
    window = WINDOW[len(entry.size)]
    record["layout"] = str(layout)

    if layout is not None and not _fits(model, x, tap, layout):
        layout = None

    def right(x: Tensor) -> dict[str, Any]:
        if tap is not None and layout is not None:
            made = oracle.cams(model, x, tap.module, getattr(tap, "call", 1), layout, target, entry.outputs)
        else:
            made = {"saliency": oracle.saliency(model, x, target, entry.outputs)}
        made["occlusion"] = oracle.occlusion(model, x[:1], target[:1], *window, entry.outputs)
        if isinstance(entry.attention, Attention):
            made |= oracle.attention(model, x, target, entry.attention)
        return made

    plain = None
    try:
        if not entry.exact:
            raise RuntimeError("dtype")
        _convert(model, torch.float64)
        exact, record["oracle"] = right(x.double()), "float64"
        _convert(model, torch.float32)
    except RuntimeError as error:
        if "dtype" not in str(error) and "Double" not in str(error) and "same" not in str(error):
            raise
        _convert(model, torch.float32)
        exact = plain = right(x)
        record["oracle"] = "float32"
    for method, drawn in maps.items():
        if method in ATTENTION:
            _attention(entry, record, method, drawn, exact)
        elif method in exact:
            scale = exact["signed"] if method == "grad-cam" else exact[method]
            error = oracle.error(drawn, exact[method], scale)
            if error > BOUND and plain is None:
                plain = right(x)
            _rate(record, method, error, 0.0 if plain is None else oracle.error(plain[method], exact[method], scale))
        else:
            _add(record, method, "not judged", reason=f"the table knows no layout for {record['layer']}")
    if isinstance(entry.attention, Attention) and not entry.attention.optional:
        record["missing"] = [method for method in ATTENTION if method not in maps]
    if tap is not None and layout is not None:
        G = exact["G"]
        record["grid"] = list(G.shape[2:])
        if float(G.abs().max()) == 0:
            _add(record, "layer", "wrong map", reason=f"{tap.name} has no gradient at any position: a blank map")
    _check_table(entry, record, model, x, target)


def _convert(model: nn.Module, dtype: torch.dtype) -> None:
    """Through train(), so that a network that keeps tensors in evaluation mode makes them again."""
    model.train()
    model.to(dtype)
    model.eval()


def _rate(record: dict[str, Any], method: str, error: float, noise: float) -> None:
    fine = error <= max(BOUND, NOISE * noise if noise > BOUND / NOISE else 0)
    _add(
        record,
        method,
        "right" if fine else "wrong map",
        error=error,
        noise=noise,
        reason=f"off by {error:.1e} of its scale",
    )


def _attention(entry: Entry, record: dict[str, Any], method: str, drawn: Tensor, exact: dict[str, Any]) -> None:
    if isinstance(entry.attention, Attention):
        errors = [oracle.error(drawn, candidate) for candidate in exact[method]]
        _rate(record, method, min(errors), 0.0)
    elif entry.attention == "none":
        _add(record, method, "wrong map", reason="a map though the network has no softmax attention over one grid")
    else:
        flat = drawn.flatten(1)
        alive = bool(torch.isfinite(flat).all()) and float((flat.amax(1) - flat.amin(1)).min()) > 0
        _add(record, method, "right" if alive else "wrong map", reason="not finite, or one value at all positions")


def _check_table(entry: Entry, record: dict[str, Any], model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Whether the table itself is right: its layer exists, has a gradient, and answers to its own places."""
    times: dict[str, int] = {}
    modules = dict(model.named_modules())
    handles = [
        m.register_forward_hook(lambda _, __, ___, name=name: times.__setitem__(name, times.get(name, 0) + 1))
        for name, m in modules.items()
    ]
    with torch.no_grad():
        model(x[:1])
    for handle in handles:
        handle.remove()
    fit = [(name, n) for name, n in times.items() if entry.accepts(name) or entry.accepts(f"{name}@{n}")]
    if not fit:
        record["table"] = f"no layer is named {entry.layers}"
        return
    name, calls = fit[-1]
    record["table_layer"] = name
    layout = entry.layout_of(name, modules[name]) or entry.layout
    G = oracle.cams(model, x, modules[name], calls, layout, target, entry.outputs)["G"]
    alive = float((G.abs().sum(1).flatten(1) > 0).double().mean())
    record["table_alive"], record["table_grid"] = round(alive, 3), list(G.shape[2:])
    share = oracle.located(model, x, modules[name], calls, layout)
    bright = (x / x.abs().max()).abs() + 0.5
    for gain in (1.0, 2.0):  # activations that halve what is small need the second
        if share is not None and share < 0.75:
            share = max(share, oracle.located(gentled(model, gain), bright, modules[name], calls, layout, 0.5) or 0.0)
    record["table_located"] = share
    if alive == 0:
        record["table"] = f"{name} has no gradient at any position"
    elif share is not None and share < 0.75:
        record["table"] = f"{name} answers to its own place in {share:.0%} of the places only"


def _fits(model: nn.Module, x: Tensor, tap: Any, layout: Layout) -> bool:
    try:
        with torch.no_grad(), oracle.Watch(tap.module, getattr(tap, "call", 1)) as watch:
            model(x[:1])
        assert watch.out is not None
        layout.read(watch.out, tuple(x.shape[2:]))
    except ValueError:
        return False
    return True
