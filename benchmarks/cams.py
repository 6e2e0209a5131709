"""How fast the CAMs are, beside a plain forward pass and the other libraries, all timed in one run.

    python benchmarks/cams.py speed              Grad-CAM and eight gradient CAMs, ResNet-18, batch 8 at 224
    python benchmarks/cams.py ablation           Ablation-CAM, ResNet-18 layer4 and layer3, one image
    python benchmarks/cams.py score              Score-CAM, ResNet-18 layer4, one image
    python benchmarks/cams.py signals            every CAM on 1000 signals of 40 points
    python benchmarks/cams.py memory             peak memory of Score-CAM as the number of masks grows
    python benchmarks/cams.py all --write        all of them, into docs/benchmarks.md

Needs `pip install heatproof[benchmark]`. Weights are random. Contenders take turns within a round, in changing order; a
ratio is the median over rounds of time divided by the forward pass of the same round. On a machine that others use at
the same time, `--clock cpu` measures the processor time of one thread instead of the time on the wall.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from page import write
from torch import Tensor, nn

from heatproof.methods import explain, methods
from heatproof.nets import build
from heatproof.probe import Probe

Job = Callable[[], Tensor | None]
GRADIENT = ("grad-cam", "grad-cam-plus-plus", "xgrad-cam", "hires-cam", "layer-cam", "elementwise-grad-cam",
            "eigen-grad-cam", "cam")  # fmt: skip
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
COURSE = ("grad-cam", "grad-cam-plus-plus", "ablation-cam")


@dataclass
class Contender:
    """One way of doing the work.

    Attributes:
        job: does it once and returns its maps, or None for what makes none.
        units: forward passes that count as one (how many the ratio is of). slow: timed in one round only.
    """

    name: str
    job: Job
    slow: bool = False
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    maps: Tensor | None = None


@dataclass
class Settings:
    """What the command line says: how often the contenders take turns, and by which clock."""

    rounds: int = 7
    clock: str = "wall"


def race(contenders: Sequence[Contender], given: Settings, *, rounds: int = 99, repeats: int = 2) -> list[Contender]:
    """Times every contender in every round, the first being the yardstick of the ratios."""
    now = CLOCKS[given.clock]
    for contender in contenders:
        if not contender.slow:
            contender.maps = quietly(contender.job)
    for turn in range(min(rounds, given.rounds)):
        order = list(contenders)
        random.Random(turn).shuffle(order)
        taken: dict[str, float] = {}
        for contender in order:
            if contender.slow and turn:
                continue
            best = float("inf")
            for _ in range(1 if contender.slow else repeats):
                start = now()
                maps = quietly(contender.job)
                best = min(best, now() - start)
            contender.maps = contender.maps if maps is None else maps
            taken[contender.name] = best
        for contender in order:
            if contender.name in taken:
                contender.seconds.append(taken[contender.name])
                contender.ratios.append(taken[contender.name] / taken[contenders[0].name])
    return list(contenders)


def quietly(job: Job) -> Tensor | None:
    """The job's result, without the progress bars and deprecation warnings of other libraries."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return job()


def table(title: str, contenders: Sequence[Contender], *, ours: str, per: str = "forward passes") -> str:
    """A Markdown table; the difference is to our maps, each scaled to its own range."""
    mine = next(c for c in contenders if c.name == ours)
    lines = [f"### {title}", "", f"| | seconds | {per} | times slower than ours | largest difference |",
             "|---|---:|---:|---:|---:|"]  # fmt: skip
    for contender in contenders:
        if contender.name == contenders[0].name or contender is mine or contender.maps is None:
            slower = ""
        else:
            slower = f"{statistics.median(contender.ratios) / statistics.median(mine.ratios):.2f}"
        gap = "" if contender is mine else difference(contender.maps, mine.maps)
        lines.append(
            f"| {contender.name} | {statistics.median(contender.seconds):.4f} | "
            f"{statistics.median(contender.ratios):.2f} | {slower} | {gap} |"
        )
    return "\n".join([*lines, ""])


def difference(theirs: Tensor | None, ours: Tensor | None) -> str:
    """The largest difference between two stacks of maps, each map scaled to 0 ... 1; empty where one is missing."""
    if theirs is None or ours is None or theirs.shape != ours.shape:
        return ""
    return f"{float((scaled(theirs) - scaled(ours)).abs().max()):.1e}"


def scaled(maps: Tensor) -> Tensor:
    """Each map with its smallest value at 0 and its largest at 1."""
    flat = maps.double().flatten(1)
    flat = flat - flat.amin(1, keepdim=True)
    return (flat / flat.amax(1, keepdim=True).clamp_min(1e-12)).reshape(maps.shape)


def resnet(n: int) -> tuple[nn.Module, Tensor]:
    """ResNet-18 with random weights and n random images."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(weights=None).eval(), torch.randn(n, 3, 224, 224)


def forward(model: nn.Module, x: Tensor) -> Contender:
    """A plain pass without gradients: the yardstick."""

    @torch.inference_mode()
    def job() -> None:
        model(x)

    return Contender("plain forward pass", job)


def heatproof(
    name: str, probe: Probe | nn.Module, x: Tensor, method: str | list[str], target: Tensor | None = None
) -> Contender:
    """Ours; the maps of the first method."""

    def job() -> Tensor:
        found = explain(probe, x, method, target=target)
        return next(iter(found.values())) if isinstance(found, dict) else found

    return Contender(name, job)


def grad_cam(kind: str, model: nn.Module, layer: nn.Module, x: Tensor, *, slow: bool = False) -> Contender:
    """The library pytorch-grad-cam."""
    import pytorch_grad_cam

    cam = getattr(pytorch_grad_cam, kind)(model, [layer])
    return Contender("grad-cam", lambda: torch.from_numpy(cam(x, None)), slow=slow)


def torchcam(kind: str, model: nn.Module, layer: str, x: Tensor) -> Contender:
    """The library torchcam; its maps are brought to the input's size as its own examples do."""
    import torchcam.methods

    def job() -> Tensor:
        with getattr(torchcam.methods, kind)(model, layer) as cam:
            out = model(x)
            (maps,) = cam(out.argmax(1).tolist(), out)
        return resized(maps, x)

    return Contender("torchcam", job)


def captum(model: nn.Module, layer: nn.Module, x: Tensor) -> Contender:
    """captum's LayerGradCam, for the predicted class, which takes a pass of its own to know."""
    from captum.attr import LayerAttribution, LayerGradCam

    cam = LayerGradCam(model, layer)

    def job() -> Tensor:
        with torch.no_grad():
            target = model(x).argmax(1)
        maps = cam.attribute(x, target, relu_attributions=True)
        found: Tensor = LayerAttribution.interpolate(maps, x.shape[2:], interpolate_mode="bilinear")
        return found[:, 0].detach()

    return Contender("captum, class to be found", job)


def captum_known(model: nn.Module, layer: nn.Module, x: Tensor) -> Contender:
    """captum's LayerGradCam, for classes given beforehand."""
    from captum.attr import LayerAttribution, LayerGradCam

    cam = LayerGradCam(model, layer)
    target = model(x).argmax(1)

    def job() -> Tensor:
        maps = cam.attribute(x, target, relu_attributions=True)
        found: Tensor = LayerAttribution.interpolate(maps, x.shape[2:], interpolate_mode="bilinear")
        return found[:, 0].detach()

    return Contender("captum, class given", job)


def resized(maps: Tensor, x: Tensor) -> Tensor:
    """Low-resolution maps at the size of the input."""
    return nn.functional.interpolate(maps[:, None], x.shape[2:], mode="bilinear", align_corners=False)[:, 0].detach()


def speed(given: Settings) -> str:
    """Grad-CAM and several gradient CAMs together."""
    model, x = resnet(8)
    probe = Probe(model, layer="layer4")
    together = [name for name in GRADIENT if name in methods][:8]
    found = race(
        [
            forward(model, x),
            heatproof("heatproof", probe, x, "grad-cam"),
            heatproof("heatproof, a new probe each time", model, x, "grad-cam"),
            heatproof(f"heatproof, {len(together)} gradient CAMs together", probe, x, together),
            captum_known(model, model.get_submodule("layer4"), x),
            captum(model, model.get_submodule("layer4"), x),
            torchcam("GradCAM", *resnet(8)[:1], "layer4", x),
            _peer_on_copy("GradCAM", x),
        ],
        given,
    )
    return table("Grad-CAM, ResNet-18, batch of 8 at 224 x 224", found, ours="heatproof")


def _peer_on_copy(kind: str, x: Tensor, layer: str = "layer4", *, slow: bool = False) -> Contender:
    """pytorch-grad-cam leaves its hooks in the model, so it gets a copy with the same weights."""
    model, _ = resnet(1)
    return grad_cam(kind, model, model.get_submodule(layer), x, slow=slow)


def ablation(given: Settings) -> str:
    """Ablation-CAM of one image behind ResNet-18's last stages."""
    parts = []
    for layer in ("layer4", "layer3"):
        model, x = resnet(1)
        channels = 512 if layer == "layer4" else 256
        found = race(
            [
                forward(model, x),
                heatproof("heatproof", Probe(model, layer=layer), x, "ablation-cam:score=logit"),
                heatproof("heatproof, score: margin", Probe(model, layer=layer), x, "ablation-cam"),
                _peer_on_copy("AblationCAM", x, layer, slow=True),
            ],
            given,
        )
        found[2].maps = None  # another score, another map
        parts.append(
            table(f"Ablation-CAM, ResNet-18 {layer} ({channels} channels), one image", found, ours="heatproof")
        )
    return "\n".join(parts)


def score(given: Settings) -> str:
    """Score-CAM of one image, beside the best the plain model can do for 512 images."""
    model, x = resnet(1)
    auto, plain = (Probe(model, layer="layer4", engine=kind) for kind in ("auto", "plain"))
    contenders = [
        heatproof("heatproof", auto, x, "score-cam:score=logit"),
        heatproof("heatproof, plain engine", plain, x, "score-cam:score=logit"),
        _limit(model),
        torchcam("ScoreCAM", *resnet(1)[:1], "layer4", x),
        _peer_on_copy("ScoreCAM", x),
    ]
    for contender in contenders:
        contender.slow = True  # hundreds of passes each: no need to warm up, nor of a second round
    found = race([forward(model, x), *contenders], given)
    return table("Score-CAM, ResNet-18 layer4 (512 channels), one image", found, ours="heatproof")


def _limit(model: nn.Module) -> Contender:
    """512 images through the model, at its best batch size, channels-last and with BatchNorm folded."""
    from torch.fx.experimental.optimization import fuse

    fast = fuse(model).to(memory_format=torch.channels_last)
    batches = {n: torch.randn(n, 3, 224, 224).to(memory_format=torch.channels_last) for n in (4, 8, 16, 32)}
    best = {n: float("inf") for n in batches}
    with torch.inference_mode():
        for _ in range(3):
            for n, batch in batches.items():
                start = time.perf_counter()
                for _ in range(32 // n):
                    fast(batch)
                best[n] = min(best[n], time.perf_counter() - start)
    size = min(best, key=lambda n: best[n])

    @torch.inference_mode()
    def job() -> None:
        for _ in range(512 // size):
            fast(batches[size])

    return Contender(f"512 images through the plain model (folded, channels-last, batches of {size})", job)


def signals(given: Settings) -> str:
    """Every CAM on 1000 MNIST-1D-sized signals, in one call."""
    torch.manual_seed(0)
    model, x = build("mnist1d-cnn").eval(), torch.randn(1000, 1, 40)
    probe = Probe(model)
    every = [name for name in methods if methods[name].family == "cam" and name != "cam"]  # cam needs a pooled layer
    found = race(
        [
            forward(model, x),
            heatproof(f"all {len(every)} in one call", probe, x, every),
            heatproof(" + ".join(COURSE), probe, x, COURSE),
            *(heatproof(name, probe, x, name) for name in every),
        ],
        given,
        rounds=3,
        repeats=1,
    )
    for contender in found:
        contender.maps = None  # different methods, not different ways to one map
    return table("Every CAM, 1000 signals of 40 points, mnist1d-cnn", found, ours=f"all {len(every)} in one call")


def memory(_: Settings) -> str:
    """Peak memory above that of the loaded model, each number of masks in a process of its own."""
    lines = ["### Memory of Score-CAM, one image at 224 x 224", "", "| channels (masks) | peak above the model, MiB |",
             "|---:|---:|"]  # fmt: skip
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        command = [sys.executable, __file__, "memory-of", "--layer", layer]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        masks, used = done.stdout.split()
        lines.append(f"| {masks} ({layer}) | {float(used):.0f} |")
    return "\n".join([*lines, ""])


def memory_of(layer: str) -> str:
    """Masks and peak MiB of one Score-CAM, in this process."""
    model, x = resnet(1)
    with torch.inference_mode():
        model(x)
    channels = model.get_submodule(layer)[-1].conv2.out_channels  # type: ignore[index, union-attr]
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    explain(Probe(model, layer=layer), x, "score-cam")
    return f"{channels} {_peak() - before}"


def _peak() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) / 1024 if found else float("nan")


TABLES: dict[str, Callable[[Settings], str]] = {
    "speed": speed, "ablation": ablation, "score": score, "signals": signals, "memory": memory
}  # fmt: skip


def machine(given: Settings) -> str:
    """What the numbers were taken on, in a sentence."""
    clock = "processor time" if given.clock == "cpu" else "wall-clock time"
    return (
        f"{clock.capitalize()}, torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()} cores, Python {platform.python_version()}."
    )


def main() -> None:
    """Prints the asked tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", choices=[*TABLES, "all", "memory-of"])
    parser.add_argument("--rounds", type=int, default=7, help="how often the contenders take turns")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what is measured; cpu uses one thread")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    parser.add_argument("--layer", default="layer4", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.table == "memory-of":
        print(memory_of(given.layer))
        return
    settings = Settings(given.rounds, given.clock)
    if given.clock == "cpu":
        torch.set_num_threads(1)
    for name in TABLES if given.table == "all" else [given.table]:
        text = f"{TABLES[name](settings)}\n{machine(settings)}"
        print(text, flush=True)
        if given.write:
            write(f"cams {name}", text)


if __name__ == "__main__":
    main()
