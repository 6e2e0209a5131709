"""Random networks made fit to be judged: no block is a no-op, no layer is dead, no head is blind."""

from __future__ import annotations

import torch
from benchmarks.zoo.oracle import scores
from torch import Tensor, nn

DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
HEAVY = 40_000_000  # parameters from which fewer samples are used
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def inputs(shape: tuple[int, ...], count: int = 2, seed: int = 1) -> Tensor:
    """Smooth shapes of two scales with noise on top, about zero mean and unit deviation."""
    generator = torch.Generator().manual_seed(seed)
    rank = len(shape) - 1
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
    x = 0.5 * torch.randn(count, *shape, generator=generator)
    for cells in (3, 8):
        coarse = torch.randn(count, shape[0], *(min(cells, s) for s in shape[1:]), generator=generator)
        x = x + nn.functional.interpolate(coarse, size=shape[1:], mode=mode, align_corners=False)
    return x / x.std()


def livened(model: nn.Module, x: Tensor, outputs: str = "logits", seed: int = 2) -> nn.Module:
    """The model in evaluation mode, changed in place.

    Parameters that hold one small value throughout (biases, residual gains, layer scales, tokens) get random values;
    batch norms get the statistics of ``x``; the head is scaled so that the logits deviate by about 2.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, value in model.named_parameters():
            _enliven(name, value)
        more = 4 if sum(p.numel() for p in model.parameters()) < HEAVY else 1
        _calibrate(model, torch.cat([x, inputs(tuple(x.shape[1:]), more, seed)]))
        _scale(model, x, outputs)
    return model.eval()


def _enliven(name: str, value: Tensor) -> None:
    if not value.is_floating_point() or value.numel() == 0:
        return
    low, high = value.min(), value.max()
    if low != high:
        return
    level = abs(float(low))
    if "bias" in name.rsplit(".", 1)[-1]:
        value.add_(torch.randn_like(value) * 0.05)
    elif level < 0.11:
        gain = sum(length > 1 for length in value.shape) <= 1 and not any(w in name for w in ("token", "pos", "embed"))
        value.copy_(0.5 + 0.5 * torch.rand_like(value) if gain else 0.2 * torch.randn_like(value))
    elif value.numel() > 1:
        value.mul_(0.8 + 0.4 * torch.rand_like(value))


def _calibrate(model: nn.Module, x: Tensor) -> None:
    norms = [m for m in model.modules() if isinstance(m, NORMS) and m.running_mean is not None]
    model.eval()
    if not norms:
        return
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None
    try:
        model(x)
    except ValueError:  # a batch norm behind the pooling of one position cannot be trained on one row
        model(torch.cat([x, x.flip(-1)]))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        norm.eval()
        norm.running_var.clamp_(min=1e-4)


def _scale(model: nn.Module, x: Tensor, outputs: str) -> None:
    """The last dense layer or convolution with one output a class, multiplied."""
    heads, before = _head(model, x, outputs)
    if not heads or not 0 < before < float("inf"):
        return
    _multiply(heads[-1], 2 / before)
    _, after = _head(model, x, outputs)
    if after < 1.5:  # its outputs are bounded, by a tanh say: where they still grow
        _multiply(heads[-1], before / 4)
    elif after > 2.5:  # what stands before it is normed
        _multiply(heads[-1], 2 / after)


def _head(model: nn.Module, x: Tensor, outputs: str) -> tuple[list[nn.Module], float]:
    ends: list[nn.Module] = []
    handles = [
        m.register_forward_hook(lambda m, _, __: ends.append(m)) for m in model.modules() if isinstance(m, DENSE)
    ]
    z = scores(model, x, outputs)
    for handle in handles:
        handle.remove()
    return [m for m in ends if m.weight.shape[0] == z.shape[1]], float(z.std(1).mean())


def _multiply(module: nn.Module, factor: float) -> None:
    for value in module.parameters():
        value.mul_(factor)


def gentled(model: nn.Module, gain: float) -> nn.Module:
    """The model with weights that only average, changed in place: what is disturbed at a place shows up there.

    Deep random networks are chaotic: a disturbance has changed all of their late layers alike. With positive weights
    that sum to ``gain``, no bias and plain batch norms it spreads as a receptive field does.
    """
    with torch.no_grad():
        for module in model.modules():
            weight = getattr(module, "weight", None)
            if isinstance(module, NORMS) and module.running_mean is not None:
                module.running_mean.zero_()
                module.running_var.fill_(1)
            if isinstance(module, DENSE) and isinstance(weight, nn.Parameter):
                weight.abs_()
                weight.mul_(gain / weight.flatten(1).sum(1).reshape(-1, *(1,) * (weight.ndim - 1)))
            elif isinstance(weight, nn.Parameter) and weight.ndim == 1:
                weight.fill_(1)
            bias = getattr(module, "bias", None)
            if isinstance(bias, nn.Parameter):
                bias.zero_()
        for value in model.parameters():
            if sum(length > 1 for length in value.shape) <= 1 and bool((value != 0).all()):
                value.fill_(1)  # gains of residual branches
        for name, value in model.named_parameters():
            if name.endswith("attention_biases"):  # LeViT's, by distance: each token attends to its own place
                value.zero_()
                value[:, 0] = 1e9
    model.train()  # tensors that are kept in evaluation mode are made again
    return model.eval()
