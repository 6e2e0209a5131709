"""`train`: data, network and recipe by name in, a trained model with its card out."""

from __future__ import annotations

import copy
import json
import os
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heatproof import data as datasets
from heatproof.errors import FileError, FolderInUse, InputError, UsageError
from heatproof.files import writing
from heatproof.models.card import Card, attach, card_of
from heatproof.models.folder import load, save
from heatproof.models.inputs import preprocessing_of
from heatproof.nets import build as build_net
from heatproof.nets import nets
from heatproof.probe import SEVERAL, Probe, probe_for
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.training.batches import InOrder, hold_out
from heatproof.training.history import Epoch, read_history
from heatproof.training.recipes import Recipe, resolve

PLAN = "training.json"
MODEL = "model"
PROBABILITIES = ("label-probabilities", "probabilities")


def train(
    data: str | Splits | Samples,
    *,
    recipe: str | Spec | Recipe = "fast",
    out: str | os.PathLike[str] | None = None,
    net: str | Spec | nn.Module | None = None,
    seed: int = 0,
    epochs: int | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> nn.Module:
    """A model trained on ``data``, in evaluation mode, with its ``.card`` and its ``.history`` (an Epoch a row).

    ``data`` is a name ("mnist1d:seed=1"), Splits or Samples; ``net`` a name, an untrained module (a copy is trained) or
    None for the network that suits signals; ``epochs`` overrides the recipe. The history's validation columns come from
    the held-out share of the training data; where the recipe holds none out, from the test split, which then
    decides nothing. With ``out``: ``model/``, ``history.csv``, ``checkpoints/``, ``tensorboard/``.

    Raises: UnknownName, UsageError, InputError for what cannot be trained; FolderInUse where ``out`` holds another
        training; Interrupted after Ctrl-C, when ``resume=True`` goes on and ends as if nothing had happened.
    """
    plan = resolve(recipe, epochs=epochs)
    splits = _splits(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, architecture = _network(net, splits.train)
    label = data if isinstance(data, str) else splits.train.name
    folder = None if out is None else Path(out)
    if folder is not None:
        settings = {
            "data": label,
            "samples": len(splits.train),
            "network": str(architecture),
            "recipe": asdict(plan),
            "seed": seed,
        }
        if _finished(folder, settings, resume):
            return _reload(folder, model)
    learn, held = hold_out(splits.train, plan.validation, seed)
    fitted_net, history, seconds = _fit(model, learn, held or splits.test, plan, seed, folder, quiet)
    parts = {"train": learn, "validation": held, "test": splits.test}
    measure = "mae" if splits.task == "regression" else "accuracy"
    metrics = {f"{name}_{measure}": _measured(fitted_net, part) for name, part in parts.items() if part}
    metrics["train_loss"], metrics["seconds"] = history[-1].train_loss, round(seconds, 2)
    card = Card(
        architecture=architecture,
        input_shape=tuple(splits.train.x.shape[1:]),
        classes=splits.classes,
        data=label,
        recipe=asdict(plan),
        metrics=metrics,
        seed=seed,
        outputs=_outputs(fitted_net, splits.train),
        preprocessing=preprocessing_of(splits.train),
    )
    return _finish(fitted_net, history, card, folder)


def _outputs(model: nn.Module, samples: Samples) -> str:
    """How the model's output is read, for its card."""
    few = samples.x[:SEVERAL]
    return probe_for(Probe(model), few, samples.task, len(samples.classes)).outputs_for(few).statement


def _splits(data: str | Splits | Samples) -> Splits:
    splits = datasets.load(data) if isinstance(data, str) else data
    if isinstance(splits, Samples):
        splits = Splits(splits, splits.take(slice(0, 0)))
    if not isinstance(splits, Splits):
        raise InputError(f"training data: got {type(splits).__name__}, expected a name, Splits or Samples")
    x = splits.train.x
    if len(x) < 2 or (len(splits.classes) < 2 and splits.task != "regression"):
        raise InputError(f"got {len(x)} training samples of {len(splits.classes)} classes; expected at least 2 of each")
    if not x.dtype.is_floating_point or x.ndim < 3:
        raise InputError(f"training inputs: got {x.dtype} of shape {tuple(x.shape)}, expected floats (N, C, *S)")
    if isinstance(x, torch.Tensor) and not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])
        raise InputError(f"training inputs hold NaN or infinite values, first in sample {bad}; remove or replace them")
    return splits


def untrained(samples: Samples, net: str | Spec | nn.Module | None = None) -> nn.Module:
    """The network that `train` would train on the samples, with random weights.

    Raises: UnknownName, UsageError where the network does not fit the samples.
    """
    with torch.random.fork_rng(devices=[]):
        return _network(net, samples)[0]


def _network(net: str | Spec | nn.Module | None, samples: Samples) -> tuple[nn.Module, Spec]:
    if isinstance(net, nn.Module):
        card = card_of(net)
        name = f"{type(net).__module__}:{type(net).__qualname__}"
        architecture = card.architecture if card else Spec(name)
        model = copy.deepcopy(net)
    else:
        if net is None and samples.x.ndim != 3:
            raise UsageError(
                f"no network suits inputs of shape {tuple(samples.x.shape[1:])} by itself; pass net=, one of "
                f"{', '.join(nets)}, or a torch module"
            )
        architecture = _fitted(nets.spec(net or "mnist1d-cnn"), samples)
        model = build_net(architecture)
    with torch.no_grad():
        try:
            logits = model.eval()(samples.x[:2])
        except RuntimeError as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            raise UsageError(f"the network does not accept {tuple(samples.x.shape[1:])} inputs: {reason}") from error
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, len(samples.classes)):
        got = tuple(logits.shape[1:]) if isinstance(logits, torch.Tensor) else type(logits).__name__
        several = f"one logit for each of {len(samples.classes)} {samples.task}"
        expected = "one number a sample, shape (N, 1)," if samples.task == "regression" else several
        raise UsageError(f"the network gives {got}, expected {expected}")
    if samples.task == "labels" and Probe(model).outputs_for(samples.x[:2]).kind in PROBABILITIES:
        raise UsageError("the network ends in probabilities of labels; training takes logits: leave out its sigmoid")
    return model.train(), architecture


def _fitted(spec: Spec, samples: Samples) -> Spec:
    """The spec with the sizes that the data decides, where the network has such options and they were not given."""
    rank, channels, length = samples.x.ndim - 2, samples.x.shape[1], samples.x.shape[2]
    sizes = {"classes": len(samples.classes), "channels": channels, "length": length, "rank": rank}
    defaults = nets[spec.name].options
    chosen = {k: v for k, v in sizes.items() if k in defaults and v != defaults[k]} | spec.kwargs
    return Spec(spec.name, tuple(sorted(chosen.items())))


def _fit(
    model: nn.Module, learn: Samples, held: Samples, recipe: Recipe, seed: int, out: Path | None, quiet: bool
) -> tuple[nn.Module, tuple[Epoch, ...], float]:
    from heatproof.training.callbacks import bar
    from heatproof.training.fit import fit

    with nullcontext(None) if quiet else bar("training") as watch:
        done = fit(model, learn, recipe, held=held if len(held) else None, seed=seed, out=out, watch=watch)
    return done.net, done.history, done.seconds


def _finished(folder: Path, settings: dict[str, Any], resume: bool) -> bool:
    """Whether the folder already holds this very training, complete; otherwise it is now claimed for it."""
    settings = json.loads(json.dumps(settings))
    plan = folder / PLAN
    if plan.exists():
        try:
            earlier = json.loads(plan.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"{str(plan)!r} is truncated or unreadable; choose another folder") from error
        if not resume:
            raise FolderInUse(
                f"{str(folder)!r} already holds a training; resume it (resume=True) or choose another folder"
            )
        if not isinstance(earlier, dict):
            raise FileError(f"{str(plan)!r} is not the record of a training; choose another folder")
        if earlier != settings:
            raise FolderInUse(
                f"{str(folder)!r} holds a training made with other settings ({_differences(earlier, settings)}); "
                "resume with the same settings or choose another folder"
            )
        return (folder / MODEL / "card.json").exists()
    with writing(plan) as part:
        part.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return False


def _differences(earlier: dict[str, Any], settings: dict[str, Any], head: str = "") -> str:
    """What differs, as "seed: 0 there, 1 here; recipe.epochs: 3 there, 5 here"."""
    parts = []
    for key, here in settings.items():
        there = earlier.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            parts += [_differences(there, here, f"{head}{key}.")] if here != there else []
        elif there != here:
            parts.append(f"{head}{key}: {there} there, {here} here")
    return "; ".join(parts)


def _reload(folder: Path, model: nn.Module) -> nn.Module:
    trained = load(folder / MODEL, factory=lambda: model)
    object.__setattr__(trained, "history", read_history(folder))
    return trained


def _finish(model: nn.Module, history: tuple[Epoch, ...], card: Card, folder: Path | None) -> nn.Module:
    attach(model, card)
    object.__setattr__(model, "history", history)
    if folder is not None:
        save(model, folder / MODEL)
    return model


@torch.inference_mode()
def _measured(model: nn.Module, samples: Samples) -> float:
    """The share of samples, or of decisions on labels, that are correct; the mean absolute error of a regression."""
    if samples.task == "regression":
        return float(sum((model(x)[:, 0] - y).abs().sum() for x, y in InOrder(samples))) / len(samples)
    if samples.task == "labels":
        return sum(int(((model(x) >= 0) == y).sum()) for x, y in InOrder(samples)) / samples.y.numel()
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in InOrder(samples))
    return hits / len(samples)
