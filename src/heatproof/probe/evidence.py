"""What a model returns, decided from the operations of a pass, the numbers of real samples, and what was stated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from heatproof.errors import InputError
from heatproof.probe.endings import Bounds, Ending, Observation
from heatproof.probe.entries import candidates, columns, description, entry, leaves, tensors
from heatproof.probe.kinds import BINARY, KINDS, LABELS, MEANINGS, PROBABILITIES, WORDS, Kind, Numbers, Task, parsed
from heatproof.probe.outputs import Outputs

EVERY = 2**30  # operations to remember where their number grows with the batch
PROBLEMS: dict[str, Kind] = {"multi_label_classification": "label-logits", "regression": "regression"}
ACTIVATED = {"softmax": "softmax", "log-softmax": "log_softmax", "sigmoid": "sigmoid", "log-sigmoid": "logsigmoid"}


@dataclass(frozen=True)
class Statement:
    """What somebody said of the outputs: which entry, which kind, and who said so; empty where nobody did.

    Attributes:
        hint: what the settings of a Hugging Face model say, to be heeded where operations and numbers leave it open.
        width: how many outputs those settings speak of.
    """

    entry: str = ""
    kind: Kind | None = None
    source: str = ""
    hint: Kind | None = None
    width: int = 0

    @classmethod
    def of(cls, model: nn.Module, text: str | None) -> Statement:
        """What ``outputs=`` says, else the model's card, else the settings of a Hugging Face model.

        Raises: InputError.
        """
        if text is not None:
            return cls(*parsed(text), "outputs=")
        card = getattr(getattr(model, "card", None), "outputs", "")
        if isinstance(card, str) and card:
            return cls(*parsed(card), "the model's card")
        for module in model.modules():
            config = getattr(module, "config", None)
            hint = PROBLEMS.get(str(getattr(config, "problem_type", None)))
            if hint is not None:
                width = getattr(config, "num_labels", 0)
                return cls(hint=hint, width=width if isinstance(width, int) else 0)
        return cls()


@dataclass(frozen=True, eq=False)
class Look:
    """One look at an output: its entry, its values (1, K), what they may be, and which operation made them.

    Attributes:
        ending: the softmax or sigmoid that made the output, or None. exact: whether what went into it gives the logits.
        bounds: what the last operations say of the range of its values. watch: see `Outputs`.
    """

    entry: str
    out: Tensor
    numbers: Numbers
    ending: Ending | None
    exact: bool
    bounds: Bounds
    watch: int

    @property
    def width(self) -> int:
        """How many columns the output has."""
        return self.out.shape[1]

    def outputs(self, kind: Kind, reason: str, *, settled: bool = True) -> Outputs:
        """The decision for a kind."""
        operation = self.ending.operation if self.ending is not None else None
        log = kind in ("binary-probability", "label-probabilities") and operation in ("log-sigmoid", "log-softmax")
        makes = {"probabilities": ("softmax", "sigmoid"), "log-probabilities": ("log-softmax",)}
        fits = operation in makes.get(kind, ("sigmoid", "log-sigmoid", "softmax", "log-softmax"))
        if kind == "probabilities" and operation == "sigmoid" and self.ending is not None:
            fits = self.ending.is_pair()
        watch = self.watch if self.exact and fits and kind in (*PROBABILITIES, "log-probabilities") else 0
        classes = 2 if kind in BINARY else self.width
        return Outputs(kind, classes, self.entry, reason, watch=watch, settled=settled, log=log)

    def refused(self, message: str, *choices: Kind, settled: bool = True) -> Outputs:
        """The decision that the output cannot be read."""
        return Outputs("logits", 0, self.entry, trouble=InputError(message), choices=choices, settled=settled)


def decide(
    raw: Any, rows: int, seen: Observation, statement: Statement, wide: tuple[Any, int] | None = None
) -> Outputs:
    """How a model's output is read, or why it cannot be.

    Args:
        raw: what it returned for ``rows`` samples in a pass that ``seen`` observed. wide: what it returned for more
            samples, and how many; None where there are no more.

    Raises: InputError where the values are not finite.
    """
    try:
        names = [statement.entry] if statement.entry else _chosen(raw, rows, wide)
        if len(names) > 1:
            return Outputs("logits", 0, trouble=_several(raw, names), settled=False)
        name = names[0]
        part = entry(raw, name)
        out = columns(part, rows)
        if out is None:
            raise InputError(_unfit(part))
        more = columns(entry(wide[0], name), wide[1]) if wide is not None else None
    except InputError as error:
        return Outputs("logits", 0, statement.entry, trouble=error.with_traceback(None))
    numbers = Numbers.of(out if more is None or more.shape[1] != out.shape[1] else more)
    ending = seen.of(part)
    exact = ending is not None and _agrees(ending, out, rows)
    watch = 0 if ending is None else EVERY if ending.rowwise else seen.count - ending.number + 1
    look = Look(name, out, numbers, ending, exact, seen.bounds(part), watch)
    if statement.kind is not None:
        return _stated(look, statement.kind, statement.source)
    decision = _decided(look)
    if statement.hint is not None and statement.width == look.width and _is_bare(decision):
        return look.outputs(statement.hint, "problem_type in the model's settings")
    return decision


def kind_for(outputs: Outputs, task: Task, count: int) -> Kind | None:
    """The kind of an output, where samples say what it is for: ``count`` classes or labels, or real numbers.

    None where the samples settle nothing, or contradict the output.
    """
    bare = outputs.choices if outputs.trouble is not None else (outputs.kind,)
    if task == "labels":
        fit = {LABELS[kind] for kind in bare if kind in LABELS}
    elif task == "regression":
        fit = {"regression"} if {*bare} & {"regression", *BINARY} else set()
    else:
        fit = {*bare} & {"logits", "probabilities", "log-probabilities", *(BINARY if count == 2 else ())}
    return next(iter(fit)) if len(fit) == 1 else None


def _is_bare(outputs: Outputs) -> bool:
    return bool(outputs.choices) or outputs.kind == "logits"


def _agrees(ending: Ending, out: Tensor, rows: int) -> bool:
    """Whether the operation, applied to what went into it, gives the output once more, whatever that was."""
    operation, single = ending.operation, out.shape[1] == 1
    if "softmax" in operation and not single and not ending.spans():
        return False
    odds = single and operation in ("softmax", "log-softmax")
    before = columns(ending.odds() if odds else ending.replayed(), rows)
    if before is None or before.shape != out.shape:
        return False
    before = before.float()
    if single or "sigmoid" in operation:
        p = before.sigmoid() if operation in ("sigmoid", "softmax") else torch.nn.functional.logsigmoid(before)
    else:
        p = before.softmax(1) if operation == "softmax" else before.log_softmax(1)
    loose = 2e-2 if out.dtype in (torch.float16, torch.bfloat16) else 1e-4
    return torch.allclose(p, out.float(), rtol=loose, atol=loose)


def _decided(look: Look) -> Outputs:
    numbers, ending, single = look.numbers, look.ending, look.width == 1
    if ending is not None and ending.lone:
        return look.refused(
            "the model takes its softmax over an axis of length one, such as the batch axis of a single sample, so "
            "that every probability is one; take it over the classes (dim=1), or name the output with outputs= (logits)"
        )
    if ending is not None and single and "softmax" in ending.operation and not ending.is_second():
        return look.refused(
            "the model returns the probability of one class of a softmax, which is not the second of two; return all "
            "of them, or write outputs='binary-probability' if it is that of the second of two classes"
        )
    astray = ending is not None and "softmax" in ending.operation and not single and not ending.spans()
    if ending is not None and not astray and (look.exact or look.numbers.fit(_kind(ending, look))):
        return _ended(look, ending)
    if ending is not None and ending.operation in ("softmax", "log-softmax") and not single:
        return look.refused(
            f"the model's output comes from a {ACTIVATED[ending.operation]}, but its rows are no probabilities that "
            "sum to one; return the softmax over the classes, or write outputs= (label-probabilities or logits, say)"
        )
    if single:
        bounded = numbers.unit and look.bounds != "open"
        choices: tuple[Kind, ...] = ("binary-logit", "regression", "label-logits")
        return _ambiguous(look, "one number a sample", *((*choices, "binary-probability") if bounded else choices))
    if look.bounds == "open" and numbers.simplex:
        return _ambiguous(look, "rows that sum to one although no softmax made them", "logits", "probabilities")
    if numbers.log_simplex:  # these are logits too
        return look.outputs("log-probabilities", "the exponentials of its rows sum to one", settled=False)
    if look.bounds == "open":
        return look.outputs("logits", "the model ends in an operation that puts no bounds on its values")
    if numbers.simplex:
        return look.outputs("probabilities", "its rows are at least 0 and sum to one", settled=False)
    if numbers.total is not None or numbers.power is not None:
        return look.refused(_scaled(numbers), settled=False)
    if numbers.unit:
        return _ambiguous(look, "values from 0 to 1 that do not sum to one", "label-probabilities", "logits")
    if look.bounds == "bounded":
        what = "values made of a softmax or sigmoid that are no probabilities"
        return _ambiguous(look, what, "logits", "label-logits", "regression")
    return look.outputs("logits", "its values are no probabilities", settled=not numbers.mute)


def _scaled(numbers: Numbers) -> str:
    """What is said of probabilities on another scale."""
    if numbers.power is not None:
        what = (
            f"rows whose powers of {numbers.power} sum to one, as logarithms of probabilities may do; return natural "
            "logarithms"
        )
    else:
        what = (
            f"rows that are at least 0 and all sum to {numbers.total:.4g}, as percentages made of a softmax do; return "
            "the probabilities as shares of one"
        )
    return f"the model returned {what}, or write outputs='logits' for {MEANINGS['logits']}"


def _kind(ending: Ending, look: Look) -> Kind:
    """What an operation makes of an output of such width."""
    if look.width == 1:
        return "binary-probability"
    pair = "sigmoid" in ending.operation and look.width == 2 and ending.is_pair()
    if pair and (look.numbers.simplex or look.numbers.log_simplex):
        return "probabilities" if ending.operation == "sigmoid" else "log-probabilities"
    kinds: dict[str, Kind] = {"softmax": "probabilities", "log-softmax": "log-probabilities"}
    return kinds.get(ending.operation, "label-probabilities")


def _ended(look: Look, ending: Ending) -> Outputs:
    kind = _kind(ending, look)
    reason = f"the model ends in a {ACTIVATED[ending.operation]}"
    decision = look.outputs(kind, reason)
    if not look.numbers.fit(kind, log=decision.log):
        return look.refused(f"{reason}, but its values are no {WORDS[kind]}; write outputs= ({', '.join(KINDS)})")
    return decision


def _ambiguous(look: Look, what: str, *choices: Kind) -> Outputs:
    ways = "; ".join(f"outputs={kind!r} for {MEANINGS[kind]}" for kind in choices)
    return look.refused(f"the model returned {what}, which can be read in several ways; write {ways}", *choices)


def _stated(look: Look, kind: Kind, source: str) -> Outputs:
    several = kind in ("logits", "probabilities", "log-probabilities")
    if (kind in BINARY and look.width != 1) or (several and look.width < 2):
        expected = "one column" if kind in BINARY else "a column for each of two or more classes"
        return look.refused(f"outputs: {kind} ({source}) needs {expected}; the model returned {description(look.out)}")
    decision = replace(look.outputs(kind, f"as {source} says"), stated=True)
    if not look.numbers.fit(kind, log=decision.log):
        return look.refused(f"outputs: {kind} ({source}), but the model's values are no {WORDS[kind]}")
    other = _decided(look)
    if other.trouble is None and other.kind != kind and look.ending is not None:
        return replace(decision, reason=f"{decision.reason}, although {other.reason}")
    return decision


def _chosen(raw: Any, rows: int, wide: tuple[Any, int] | None) -> list[str]:
    """The entry that holds the class scores, or all those that may; more samples show which axis is theirs.

    Raises: InputError where there is none.
    """
    if isinstance(raw, Tensor):
        return [""]
    fits = candidates(raw, rows)
    if wide is not None:
        fits = {name: fits[name] for name in candidates(*wide) if name in fits}
    named = [n for n in fits if n.rsplit(".", 1)[-1] == "logits"] or [n for n in fits if "logits" in n.lower()]
    if len(named) == 1:
        return named
    names = named or list(fits)
    apart = [
        n
        for i, n in enumerate(names)
        if not any(_repeats(fits[n], fits[m], j < i) for j, m in enumerate(names) if m != n)
    ]
    if not apart:
        raise InputError(_unfit(raw))
    return apart


def _several(raw: Any, names: list[str]) -> InputError:
    listed = ", ".join(f"{name} (N, {', '.join(map(str, entry(raw, name).shape[1:]))})" for name in names)
    return InputError(
        f"the model returned several outputs that may be class scores: {listed}; name one of them, outputs={names[0]!r}"
    )


def _repeats(out: Tensor, other: Tensor, earlier: bool) -> bool:
    """Whether an entry says nothing new beside another: the same values, or its softmax or sigmoid."""
    if out.shape != other.shape:
        return False
    if torch.equal(out, other):
        return earlier
    z, last = other.float(), other.ndim - 1
    return any(torch.allclose(out.float(), p, atol=1e-4) for p in (z.softmax(last), z.log_softmax(last), z.sigmoid()))


def _unfit(raw: Any) -> str:
    first = next(tensors(raw), None)
    what = f"the model returned {description(raw)}"
    if isinstance(raw, Tensor) and raw.ndim > 2 and raw.is_floating_point():
        return (
            f"{what}, scores for every position (a segmentation, say); expected class scores of shape (N, classes); "
            "explain one number of it with a function as target, target=lambda out: out[:, 1].flatten(1).mean(1)"
        )
    parts = ", ".join(f"{name} {tuple(part.shape)}" for name, part in leaves(raw) if name and isinstance(part, Tensor))
    listed = f" (its tensors: {parts})" if parts and first is not None else ""
    return f"{what}{listed}; expected class scores of shape (N, classes), or a target that is a function of that output"
