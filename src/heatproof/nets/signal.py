"""Networks for one-dimensional signals."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from heatproof.errors import UsageError
from heatproof.nets.catalogue import net


class ConvBlock(nn.Sequential):
    """A 'same' convolution and its ReLU, one named layer as in Keras: its output is the activation after the ReLU."""

    def __init__(self, channels: int, filters: int, kernel: int) -> None:
        conv = nn.Conv1d(channels, filters, kernel, padding="same")
        nn.init.xavier_uniform_(conv.weight)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        super().__init__(OrderedDict(conv=conv, relu=nn.ReLU()))


@net("mnist1d-cnn", input_shape=(1, 40), layer="conv1d_2")
def mnist1d_cnn(
    *, classes: int = 10, length: int = 40, channels: int = 1, filters: int = 25, kernels: tuple[int, ...] = (5, 3, 3)
) -> nn.Sequential:
    """Convolutions of 25 filters, flattened into one dense layer: 13,960 parameters for MNIST-1D.

    Convolutions start Glorot-uniform, the dense layer N(0, 0.5), every bias at zero. Layers are named as Keras names
    them: ``conv1d``, ``conv1d_1``, ``conv1d_2``, ``flatten``, ``dense``.

    Raises: UsageError for a size below one.
    """
    for name, value in (("classes", classes), ("length", length), ("channels", channels), ("filters", filters)):
        if value < 1:
            raise UsageError(f"mnist1d-cnn: option {name} got {value}, expected at least 1")
    if not kernels or min(kernels) < 1:
        raise UsageError(f"mnist1d-cnn: option kernels got {kernels}, expected sizes of at least 1, such as 5+3+3")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, kernel in enumerate(kernels):
        layers[f"conv1d_{i}" if i else "conv1d"] = ConvBlock(filters if i else channels, filters, kernel)
    dense = nn.Linear(filters * length, classes)
    nn.init.normal_(dense.weight, std=0.5)
    nn.init.zeros_(dense.bias)
    layers["flatten"], layers["dense"] = nn.Flatten(), dense
    return nn.Sequential(layers)
