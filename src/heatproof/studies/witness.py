"""What a model gives for a few samples, and every value of the data: a study goes on only where they are as they were.

A model may change without its weights (an attribute, a hook, the code itself), so it is its outputs that are compared.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from heatproof.fingerprint import values_digest
from heatproof.probe import Probe
from heatproof.records import Samples

FEW = 4  # samples that the model is asked about
TOLERANCE = 1e-3  # of the largest output: threads and batches change the last bits
CLEAR = 10.0  # the logit beyond which a probability is too close to 1 to tell logits apart


@dataclass(frozen=True, eq=False)
class Witness:
    """What is compared with what a folder holds, beside the identity of the study.

    Attributes:
        samples: those of the study. learn: the training samples, where a metric needs them.
    """

    probe: Probe
    samples: Samples
    learn: Samples | None = None

    @cached_property
    def page(self) -> dict[str, Any]:
        """What is kept, ready for JSON."""
        numbers = self.answers
        answers = {"shape": list(numbers.shape), "float32": base64.b64encode(numbers.tobytes()).decode()}
        learn = {} if self.learn is None else {"learn": values_digest(self.learn)}
        return {"samples": values_digest(self.samples), **learn, "answers": answers}

    @property
    def answers(self) -> Float[np.ndarray, "n k"]:
        """The logits, or the outputs of a regression, for a few samples spread over all."""
        rows = torch.linspace(0, len(self.samples) - 1, min(FEW, len(self.samples))).round().long()
        x = self.probe.check(self.samples.take(rows).x[:])
        logits = self.probe.logits(x).float().cpu()
        if self.probe.outputs_for(x).kind.endswith(("probability", "probabilities")):
            logits = logits.clamp_max(CLEAR)
        return np.ascontiguousarray(logits.numpy(), dtype="<f4")

    def changes(self, kept: Mapping[str, Any]) -> list[str]:
        """What differs from what a folder holds, in words; what is not kept there is not compared.

        Raises: KeyError, TypeError, ValueError for what is no such page.
        """
        digests = [(name, kept[name], self.page.get(name)) for name in ("samples", "learn") if name in kept]
        changes = [f"{name}: values {there} there, {here} here" for name, there, here in digests if there != here]
        if "answers" in kept and not changes:
            there, here = numbers_of(kept["answers"]), numbers_of(self.page["answers"])
            gap = self._gap(there, here)
            if gap > self._tolerance and not self._draws(here):
                changes.append(f"model: its outputs for the same samples differ by up to {gap:.2g} of the largest")
        return changes

    def _draws(self, first: Float[np.ndarray, "n k"]) -> bool:
        """Whether the model gives something else with other random numbers."""
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(torch.initial_seed() + 1)
            return self._gap(first, self.answers) > self._tolerance

    @property
    def _tolerance(self) -> float:
        """How far outputs may differ, as a share of the largest; more in half precision."""
        types = {self.probe.autocast, *(value.dtype for value in self.probe.model.parameters())}
        return max([TOLERANCE, *(4 * torch.finfo(kind).eps for kind in types if kind and kind.is_floating_point)])

    def _gap(self, there: Float[np.ndarray, "n k"], here: Float[np.ndarray, "n k"]) -> float:
        if there.shape != here.shape:
            return float("inf")
        scale = max(float(np.abs(there).max(initial=0)), float(np.finfo(np.float32).tiny))
        return float(np.abs(there.astype(np.float64) - here).max(initial=0)) / scale


def numbers_of(page: Mapping[str, Any]) -> Float[np.ndarray, "n k"]:
    """The outputs that a page holds."""
    return np.frombuffer(base64.b64decode(page["float32"]), dtype="<f4").reshape(page["shape"])
