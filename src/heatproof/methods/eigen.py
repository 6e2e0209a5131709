"""Class activation maps from the principal directions of a layer's output.

A singular vector has no sign of its own: it is turned so that the map grows with the sum of the channels it is made of.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.methods.engine import cam


@cam("eigen-cam", paper="2008.00299", relu=False, gives="map")
def eigen_cam(A: Float[Tensor, "n k *s"], *, centred: bool = False) -> Float[Tensor, "n *s"]:
    """The layer projected on its first right singular vector (equations 4 and 5); the same for every class.

    ``centred`` takes each channel's mean away first, as pytorch-grad-cam does and the paper does not.
    Range: signed.
    """
    return project(A, centred=centred)


@cam("eigen-grad-cam", relu=False, gives="map")
def eigen_grad_cam(
    A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"], *, centred: bool = False
) -> Float[Tensor, "n *s"]:
    """Activation times gradient projected on its first right singular vector.

    Range: signed.
    """
    return project(A * G, centred=centred)


@cam("kpca-cam", paper="2410.00267", relu=False, gives="map")
def kpca_cam(
    A: Float[Tensor, "n k *s"], *, kernel: Literal["sigmoid", "rbf"] = "sigmoid", gamma: float | None = None
) -> Float[Tensor, "n *s"]:
    """The first component of a kernel principal component analysis, positions being the samples (equation 9).

    ``gamma`` is 1 / K unless given. The same for every class.
    Range: signed.
    Cost: a P x P eigenproblem a sample, for P positions.
    """
    rows = A.flatten(2).movedim(1, 2).double()
    slope = 1 / A.shape[1] if gamma is None else gamma
    if kernel == "rbf":
        K = torch.exp(-slope * torch.cdist(rows, rows).square())
    else:
        K = torch.tanh(slope * (rows @ rows.movedim(1, 2)) + 1)
    K = K - K.mean(1, keepdim=True) - K.mean(2, keepdim=True) + K.mean((1, 2), keepdim=True)
    values, vectors = torch.linalg.eigh(K)
    found = vectors[..., -1] * values[:, -1:].clamp_min(0).sqrt()
    return turn(found, rows.sum(2)).to(A).reshape(len(A), *A.shape[2:])


def project(A: Float[Tensor, "n k *s"], *, centred: bool = False) -> Float[Tensor, "n *s"]:
    """The rows (one a position) times their first right singular vector, by the smaller of the two Gram matrices."""
    rows = A.flatten(2).movedim(1, 2).double()
    sums = rows.sum(2)
    if centred:
        rows = rows - rows.mean(1, keepdim=True)
    if rows.shape[1] <= rows.shape[2]:
        values, vectors = torch.linalg.eigh(rows @ rows.movedim(1, 2))
        found = vectors[..., -1] * values[:, -1:].clamp_min(0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(rows.movedim(1, 2) @ rows)
        found = (rows @ vectors[..., -1:])[..., 0]
    return turn(found, sums).to(A).reshape(len(A), *A.shape[2:])


def turn(found: Float[Tensor, "n p"], sums: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
    """The maps with the sign that makes them grow with ``sums``."""
    agreement = (found * (sums - sums.mean(1, keepdim=True))).sum(1, keepdim=True)
    agreement = torch.where(
        agreement.abs() > 1e-12 * sums.abs().amax(1, keepdim=True), agreement, found.sum(1, keepdim=True)
    )
    return torch.where(agreement < 0, -found, found)
