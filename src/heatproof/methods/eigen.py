"""Class activation maps from the principal directions of a layer's output.

A singular vector has no sign of its own: it is turned so that the map grows with the sum of the channels it is made of.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof import spatial
from heatproof.methods.catalogue import cam


@cam("eigen-cam", label="Eigen-CAM", paper="2008.00299", relu=False, gives="map")
def eigen_cam(A: Float[Tensor, "n k *s"], *, centred: bool = False) -> Float[Tensor, "n *s"]:
    """The layer projected on its first right singular vector (equations 4 and 5); the same for every class.

    ``centred`` takes each channel's mean away first, as pytorch-grad-cam does and the paper does not.
    Range: signed.
    """
    return spatial.project(A, centred=centred)


@cam("eigen-grad-cam", label="Eigen-Grad-CAM", relu=False, gives="map")
def eigen_grad_cam(
    A: Float[Tensor, "n k *s"], G: Float[Tensor, "n k *s"], *, centred: bool = False
) -> Float[Tensor, "n *s"]:
    """Activation times gradient projected on its first right singular vector.

    Range: signed.
    """
    return spatial.project(A * G, centred=centred)


@cam("kpca-cam", label="KPCA-CAM", paper="2410.00267", relu=False, gives="map")
def kpca_cam(
    A: Float[Tensor, "n k *s"], *, kernel: Literal["sigmoid", "rbf"] = "sigmoid", gamma: float | None = None
) -> Float[Tensor, "n *s"]:
    """The first component of a kernel principal component analysis over the positions (equation 9).

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
    component = vectors[..., -1] * values[:, -1:].clamp_min(0).sqrt()
    return spatial.turn(component, rows.sum(2)).to(A).reshape(len(A), *A.shape[2:])
