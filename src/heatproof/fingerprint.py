"""Digests of models, samples and files: what two studies must share to be the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from heatproof.records import Samples

PART = 2**22  # numbers of the inputs hashed at a time


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, as ``sha256:...``."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(model: nn.Module) -> str:
    """A fingerprint of a model's class and weights."""
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}".encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(_bytes(value))
    return digest.hexdigest()[:16]


def samples_digest(samples: Samples, look: int = 64) -> str:
    """A fingerprint of samples: their shape, labels, names, groups, and the values of some of them."""
    digest = hashlib.sha256(repr((tuple(samples.x.shape), samples.task, samples.ids, samples.classes)).encode())
    digest.update(_bytes(samples.y))
    for row in np.linspace(0, max(len(samples) - 1, 0), min(look, len(samples))).round().astype(int).tolist():
        digest.update(_bytes(samples.x[row : row + 1]))
    if samples.mask is not None:
        digest.update(_bytes(samples.mask))
    if samples.groups:
        digest.update(repr(samples.groups).encode())
    return digest.hexdigest()[:16]


def values_digest(samples: Samples) -> str:
    """A fingerprint of every input; of files that are read when asked for, of their names, sizes and times."""
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(samples.x, Tensor):
        for part in samples.x.split(max(1, PART // max(1, samples.x[:1].numel()))):
            digest.update(_bytes(part))
    for path in map(Path, getattr(samples.x, "paths", ())):
        status = path.stat() if path.is_file() else None
        stamp = (path.name, status and status.st_size, status and status.st_mtime_ns)
        digest.update(repr(stamp).encode())
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().contiguous()
    flat = flat.float() if flat.dtype == torch.bfloat16 else flat
    return flat.numpy().tobytes()
