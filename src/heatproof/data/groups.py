"""Which samples belong together: those of one patient or slide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from heatproof import draws
from heatproof.errors import InputError, UsageError
from heatproof.records import Samples


def with_groups(samples: Samples, pattern: str) -> Samples:
    """The samples with groups read off their names: what the regular expression, or its first group, matches there.

    Raises: UsageError for a bad expression, InputError where a name does not match.
    """
    if not pattern:
        return samples
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"group: {pattern!r} is no regular expression ({error})") from None
    names = []
    for name in samples.ids:
        match = expression.search(name)
        if match is None:
            raise InputError(f"group: {pattern!r} does not match the name {name!r}; every sample needs a group")
        names.append(match.group(1) if expression.groups else match.group())
    return replace(samples, groups=tuple(names))


def set_aside(groups: Sequence[str], share: float, seed: int) -> Bool[Tensor, " n"]:
    """Whole groups drawn by the seed until about a share of the samples is set aside; at least one group stays.

    Raises: InputError where there is a single group.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise InputError(
            f"group: all samples are of the group {names[0]!r}; expected two, for training and for testing"
        )
    members = {name: [i for i, group in enumerate(groups) if group == name] for name in names}
    order = draws.permutation(draws.seeds(seed, "split", torch.tensor([0])), len(names))[0].tolist()
    chosen = torch.zeros(len(groups), dtype=torch.bool)
    for place in order[:-1]:
        rows = members[names[place]]
        if bool(chosen.any()) and int(chosen.sum()) + len(rows) / 2 > share * len(groups):
            break
        chosen[rows] = True
    return chosen
