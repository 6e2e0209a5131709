"""What one Grad-CAM of a bare model costs, in forward passes: the first call for a model object, and later ones.

    python benchmarks/cold.py                 twelve networks, one image (a clip for r3d-18), beside torchcam
    python benchmarks/cold.py ablation        Ablation-CAM on two of them
    python benchmarks/cold.py --write         both, into docs/benchmarks.md

Needs `pip install heatproof[benchmark] timm`. Weights are random. Contenders take turns within a round, in changing
order; a ratio is the median over rounds of the best time of a round divided by the best forward pass of that round.
The first plain pass of a model object costs more than a later one, since weights are laid out anew; it is shown too.
The floor is a Grad-CAM by hand at the same layer: the same passes and nothing else.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import timm
import torch
import torchvision
from page import write
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.methods import explain
from heatproof.probe import Probe

VISION = torchvision.models
NETS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-18": VISION.resnet18,
    "ResNet-50": VISION.resnet50,
    "DenseNet-121": VISION.densenet121,
    "ConvNeXt-T": VISION.convnext_tiny,
    "MobileNetV3-S": VISION.mobilenet_v3_small,
    "EfficientNet-B0": VISION.efficientnet_b0,
    "RegNet-Y-400MF": VISION.regnet_y_400mf,
    "Swin-T": VISION.swin_t,
    "ViT-T": lambda: timm.create_model("vit_tiny_patch16_224", pretrained=False),
    "ShuffleNetV2": VISION.shufflenet_v2_x1_0,
    "MNASNet": VISION.mnasnet1_0,
    "r3d-18": VISION.video.r3d_18,
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Contender:
    """One way of doing the work: ``prepare`` comes before each time and is not timed."""

    name: str
    job: Callable[[object], object]
    prepare: Callable[[], object] = lambda: None
    repeats: int = 3
    times: list[float] = field(default_factory=list)


def race(contenders: Sequence[Contender], rounds: int, clock: str) -> None:
    """Times every contender in every round, in changing order."""
    now = CLOCKS[clock]
    for turn in range(rounds):
        best = {contender.name: float("inf") for contender in contenders}
        for repeat in range(max(contender.repeats for contender in contenders)):
            order = [contender for contender in contenders if repeat < contender.repeats]
            random.Random(f"{turn}:{repeat}").shuffle(order)
            for contender in order:
                subject = contender.prepare()
                start = now()
                contender.job(subject)
                best[contender.name] = min(best[contender.name], now() - start)
        for contender in contenders:
            contender.times.append(best[contender.name])


def passes(contender: Contender, forward: Contender) -> float:
    """The median over rounds of the time in forward passes."""
    return statistics.median(a / b for a, b in zip(contender.times, forward.times, strict=True))


def floor(model: nn.Module, layer: nn.Module, x: Tensor) -> Callable[[object], object]:
    """Grad-CAM by hand: one forward pass whose graph begins at the layer, one backward pass to it."""

    def job(_: object) -> object:
        kept: list[Tensor] = []

        def keep(_: nn.Module, __: object, out: Tensor) -> Tensor:
            torch.set_grad_enabled(True)
            kept.append(out.detach().requires_grad_())
            return kept[0].clone()

        handle = layer.register_forward_hook(keep)
        with torch.no_grad():
            logits = model(x)
            with torch.enable_grad():
                (G,) = torch.autograd.grad(logits[:, int(logits.argmax())].sum(), kept)
        handle.remove()
        A = kept[0].detach()
        axes = tuple(range(2, A.ndim)) or (1,)
        map = (G.mean(axes, keepdim=True) * A).sum(1, keepdim=True).relu()
        mode = {4: "bilinear", 5: "trilinear"}.get(map.ndim)
        return F.interpolate(map, x.shape[2:], mode=mode) if mode else map

    return job


def torchcam(model: nn.Module, layer: str, x: Tensor) -> Callable[[object], object]:
    """The library torchcam at the same layer; its maps are brought to the input's size."""
    from torchcam.methods import GradCAM

    def job(_: object) -> object:
        with GradCAM(model, layer) as cam:
            out = model(x)
            (maps,) = cam(out.argmax(1).tolist(), out)
        return F.interpolate(maps[None], x.shape[2:], mode="trilinear" if x.ndim == 5 else "bilinear")

    return job


def contest(name: str, rounds: int, clock: str) -> dict[str, float | None]:
    """The times of one network, in forward passes; the overhead in milliseconds."""
    torch.manual_seed(0)
    model = NETS[name]().eval()
    x = torch.randn(1, 3, 8, 112, 112) if name == "r3d-18" else torch.randn(1, 3, 224, 224)
    probe = Probe(model)
    tap = probe.tapped(x)[0]
    tap_name, module = tap.name, tap.module

    @torch.inference_mode()
    def plain(_: object) -> object:
        return model(x)

    forward = Contender("forward", plain)
    first = Contender(
        "first",
        lambda fresh: explain(fresh, x, "grad-cam"),
        lambda: copy.deepcopy(model),
        repeats=1,  # type: ignore[call-overload]
    )
    fresh = Contender("fresh", torch.inference_mode()(lambda one: one(x)), lambda: copy.deepcopy(model), repeats=1)
    later = Contender("later", lambda _: explain(model, x, "grad-cam"))
    contenders = [forward, fresh, first, later, Contender("floor", floor(model, module, x))]
    peer = Contender("torchcam", torchcam(model, tap_name, x))
    try:
        peer.job(None)
        contenders.append(peer)
    except Exception:  # it reads convolutions only
        peer.times = []
    for contender in contenders:
        contender.job(contender.prepare())
    race(contenders, rounds, clock)
    by = {contender.name: contender for contender in contenders}
    gap = statistics.median(a - b for a, b in zip(later.times, by["floor"].times, strict=True))
    return {
        "forward": 1000 * statistics.median(forward.times),
        "fresh": passes(fresh, forward),
        "first": passes(first, forward),
        "later": passes(later, forward),
        "floor": passes(by["floor"], forward),
        "torchcam": passes(peer, forward) if peer.times else None,
        "overhead": 1000 * gap,
    }


def cams(rounds: int, clock: str, nets: Sequence[str]) -> str:
    """The table of Grad-CAM."""
    columns = ("forward pass, ms", "first plain pass", "first call", "later calls", "by hand", "torchcam",
               "ours / torchcam", "beyond the passes, ms")  # fmt: skip
    lines = ["### Grad-CAM of a bare model, one sample", "", f"| network | {' | '.join(columns)} |",
             f"|---|{'---:|' * len(columns)}"]  # fmt: skip
    rows: list[dict[str, float | None]] = []
    for name in nets:
        row = contest(name, rounds, clock)
        rows.append(row)
        lines.append(_line(name, row))
        print(lines[-1], flush=True)
    for what, of in (("median", statistics.median), ("worst", max)):
        numbers = {key: [v for row in rows if (v := row[key]) is not None] for key in rows[0]}
        lines.append(_line(what, {key: of(values) if values else None for key, values in numbers.items()}))
    return "\n".join(lines)


def _line(name: str, row: dict[str, float | None]) -> str:
    share = None if not row["torchcam"] or not row["later"] else row["later"] / row["torchcam"]
    shown = [row[key] for key in ("forward", "fresh", "first", "later", "floor", "torchcam")]
    cells = [*shown, share, row["overhead"]]
    digits = (1, 2, 2, 2, 2, 2, 2, 2)
    return f"| {name} | " + " | ".join(
        "-" if cell is None else f"{cell:.{d}f}" for cell, d in zip(cells, digits, strict=True)
    ) + " |"  # fmt: skip


def ablation(rounds: int, clock: str) -> str:
    """The table of Ablation-CAM: all channels of a layer switched off, one at a time."""
    lines = ["### Ablation-CAM of a bare model, one image", "",
             "| network | forward pass, ms | first call | later calls |", "|---|---:|---:|---:|"]  # fmt: skip
    for name in ("ResNet-18", "MobileNetV3-S"):
        torch.manual_seed(0)
        model, x = NETS[name]().eval(), torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            model(x)
        forward = Contender("forward", torch.inference_mode()(lambda _, m=model, x=x: m(x)))
        first = Contender(
            "first",
            lambda fresh, x=x: explain(fresh, x, "ablation-cam"),
            lambda m=model: copy.deepcopy(m),
            repeats=1,  # type: ignore[call-overload, misc]
        )
        later = Contender("later", lambda _, m=model, x=x: explain(m, x, "ablation-cam"))
        later.job(None)
        race([forward, first, later], rounds, clock)
        lines.append(
            f"| {name} | {1000 * statistics.median(forward.times):.1f} | {passes(first, forward):.2f} | "
            f"{passes(later, forward):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", nargs="?", choices=["cams", "ablation", "all"], default="cams")
    parser.add_argument("--rounds", type=int, default=9, help="how often the contenders take turns")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what is measured; cpu uses one thread")
    parser.add_argument("--nets", nargs="*", choices=NETS, default=list(NETS), help="which networks")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.clock == "cpu":
        torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tables = {"cams": lambda: cams(asked.rounds, asked.clock, asked.nets),
              "ablation": lambda: ablation(asked.rounds, asked.clock)}  # fmt: skip
    for name in tables if asked.table == "all" else [asked.table]:
        text = tables[name]()
        print(text, flush=True)
        if asked.write:
            write(f"cold {name}", text)


if __name__ == "__main__":
    main()
