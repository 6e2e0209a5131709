"""How the output of a model is read: one typed thing, decided once, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.errors import InputError
from heatproof.probe.endings import EndingWatch
from heatproof.probe.entries import columns, description, entry, tensors
from heatproof.probe.kinds import BINARY, PROBABILITIES, WORDS, Kind, Numbers, Task

LOWEST = -30_000.0  # a logit in place of minus infinity, within the range of every number type


@dataclass(frozen=True, eq=False)
class Outputs:
    """How the output of one model is read.

    Attributes:
        kind: what the model returns. classes: how many columns `read` gives; 0 where the output cannot be read.
        entry: which part of a nested output, by its dotted name; "" for the whole.
        reason: why it was decided so. trouble: why the output cannot be read, if so.
        choices: the kinds that it may be, where that is the trouble.
        watch: how many of the last softmax and sigmoid operations of a pass must be remembered so that one of them
            gives the logits; 0 where none does. settled: whether operations or a statement settled it, not numbers
            alone. stated: whether somebody said what it is. log: whether the probabilities of a sigmoid come as
            logarithms.
    """

    kind: Kind
    classes: int
    entry: str = ""
    reason: str = ""
    trouble: InputError | None = None
    choices: tuple[Kind, ...] = ()
    watch: int = 0
    settled: bool = True
    stated: bool = False
    log: bool = False

    @property
    def task(self) -> Task:
        """What the model does: exclusive classes, labels that each hold or not, or a regression."""
        if self.kind == "regression":
            return "regression"
        return "labels" if self.kind in ("label-logits", "label-probabilities") else "classes"

    @property
    def statement(self) -> str:
        """What ``outputs=`` takes to have it read so."""
        return f"{self.entry}:{self.kind}" if self.entry else self.kind

    def __str__(self) -> str:
        if self.trouble is not None:
            return f"not decided: {self.trouble}"
        where = f"entry {self.entry!r}: " if self.entry else ""
        return f"{where}{WORDS[self.kind]} ({self.reason})" if self.reason else f"{where}{WORDS[self.kind]}"

    def read(
        self, raw: Any, rows: int, watch: EndingWatch | None = None, *, needed: bool = True
    ) -> Float[Tensor, "n k"]:
        """What gradients are taken of: a logit a class or label, or the output of a regression itself.

        What stood before the final softmax or sigmoid, where that was watched; else its logarithm or logit. A single
        logit z is read as the two classes [-z/2, z/2].

        Args:
            watch: what observed the pass. needed: whether there must be scores; otherwise zeros stand in for them.

        Raises: InputError where the output cannot be read, and it is needed.
        """
        if self.trouble is not None:
            first = next(tensors(raw), None)
            if needed or first is None:
                raise self.trouble.with_traceback(None)
            return first.new_zeros(rows, 1).float()
        part = entry(raw, self.entry)
        out = columns(part, rows)
        width = 1 if self.kind in BINARY else self.classes
        if out is None or out.shape[1] != width:
            if not needed:
                return torch.zeros(rows, self.classes, device=getattr(part, "device", None))
            raise InputError(
                f"the model returned {description(part)} for {rows} {'sample' if rows == 1 else 'samples'}; expected "
                f"shape ({rows}, {width})"
            )
        before = self._before(part, rows, watch)
        if before is None and self.watch and not self.stated and not Numbers.of(out).fit(self.kind, log=self.log):
            raise InputError(
                f"the model's outputs were {WORDS[self.kind]} when it was first looked at ({self.reason}); what it "
                "returns now cannot be: something that it reads has changed. Pass it as a new object, or say outputs="
            )
        z = self._logits(out) if before is None else before.float()
        return torch.cat([-z / 2, z / 2], dim=1) if self.kind in BINARY else z

    def probabilities(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """The probability of every class, rows summing to one, or of every label by itself.

        Raises: InputError for a regression.
        """
        if self.task == "regression":
            raise InputError("the model is read as a regression, which gives no probabilities; "
                             "outputs= says otherwise (binary-logit, say)")  # fmt: skip
        return logits.sigmoid() if self.task == "labels" else logits.softmax(1)

    def _before(self, part: Tensor, rows: int, watch: EndingWatch | None) -> Tensor | None:
        ending = watch.of(part) if watch is not None and self.watch else None
        if ending is None:
            return None
        odds = ending.operation in ("softmax", "log-softmax") and self.kind in BINARY
        before = columns(ending.odds() if odds else ending.replayed(), rows)
        if before is None or before.shape[1] != (1 if self.kind in BINARY else self.classes):
            return None
        if self.kind not in ("probabilities", "log-probabilities"):
            return before
        # The sigmoids of [-z, z] are the softmax of half of that; a class that is masked has minus infinity.
        return before / 2 if ending.operation == "sigmoid" else before.clamp_min(LOWEST)

    def _logits(self, out: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        if self.kind == "probabilities" and not self.settled and not Numbers.of(out).simplex:
            raise InputError(
                "the rows that the model returned first were at least 0 and summed to one, others do not; write "
                "outputs='logits' or outputs='probabilities'"
            )
        if out.dtype in (torch.float16, torch.bfloat16):
            out = out.float()
        if self.kind == "probabilities":
            out = out.clamp_min(torch.finfo(out.dtype).tiny).log()
        elif self.kind == "log-probabilities":
            out = out.clamp_min(LOWEST)
        elif self.kind in PROBABILITIES:
            out = torch.logit(out.exp() if self.log else out, eps=torch.finfo(out.dtype).eps / 2)
        return out.float()


def predicted(logits: Float[Tensor, "n k"], task: Task) -> Int[Tensor, " n"]:
    """The class, or the label, with the largest logit; for a regression the first output."""
    return logits.new_zeros(len(logits), dtype=torch.int64) if task == "regression" else logits.argmax(1)


def checked(numbers: Float[Tensor, "n *k"], first: int | None = 0) -> Float[Tensor, "n *k"]:
    """The logits or scores of samples; the first of these has this number, None where it is not known.

    Raises: InputError where one is NaN or infinite.
    """
    if not bool(torch.isfinite(numbers).all()):
        bad = (~torch.isfinite(numbers.reshape(len(numbers), -1)).all(1)).nonzero()[:, 0]
        where = "" if first is None else f" (the first is number {first + int(bad[0])})"
        raise InputError(
            f"the model returned NaN or infinite values for {len(bad)} of {len(numbers)} samples{where}; "
            "look at these inputs, and at the model's weights and number type"
        )
    return numbers
