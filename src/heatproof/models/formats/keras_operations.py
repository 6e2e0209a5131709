"""Bare TensorFlow operations in functional models of Keras 2, rewritten as the layers that compute the same.

Keras 2 records ``x / 127.5`` or ``tf.nn.relu(x)`` between layers as a TFOpLambda, which Keras 3 cannot read.
"""

from __future__ import annotations

from typing import Any

_MERGES = {"add": "Add", "subtract": "Subtract", "sub": "Subtract", "multiply": "Multiply", "mul": "Multiply"}
_ACTIVATIONS = {
    "nn.relu": "relu", "nn.relu6": "relu6", "nn.softmax": "softmax", "nn.sigmoid": "sigmoid", "math.sigmoid": "sigmoid",
    "nn.tanh": "tanh", "math.tanh": "tanh", "nn.elu": "elu", "nn.selu": "selu", "nn.silu": "silu", "nn.swish": "silu",
}  # fmt: skip


def as_layer(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The layer that stands for a TFOpLambda; None where there is none."""
    nodes = entry.get("inbound_nodes", [])
    if len(nodes) != 1 or len(nodes[0]) != 4 or not isinstance(nodes[0][0], str):
        return None
    source, options = nodes[0][:3], nodes[0][3]
    function = str(entry["config"].get("function"))
    if function in _ACTIVATIONS and set(options) <= {"name"}:
        return _layer(entry, "Activation", {"activation": _ACTIVATIONS[function]}, [source])
    if function in ("math.reduce_mean", "math.reduce_max"):
        return _pooling(entry, function, source, options)
    kind = function.rpartition(".")[2]
    other = options.get("y")
    if isinstance(other, list) and len(other) == 3 and isinstance(other[0], str):
        if source[0] == "_CONSTANT_VALUE":
            settings = _reflected(kind, source[2])
            return _layer(entry, "Rescaling", settings, [other]) if settings else None
        return _layer(entry, _MERGES[kind], {}, [source, other]) if kind in _MERGES else None
    if source[0] == "_CONSTANT_VALUE" or not _is_number(other):
        return None
    settings = _rescaled(kind, other)
    return _layer(entry, "Rescaling", settings, [source]) if settings else None


def _rescaled(kind: str, y: Any) -> dict[str, Any]:
    """x (operation) y."""
    if kind == "add":
        return {"scale": 1.0, "offset": y}
    if kind in ("subtract", "sub"):
        return {"scale": 1.0, "offset": _each(y, lambda v: -v)}
    if kind in ("multiply", "mul"):
        return {"scale": y, "offset": 0.0}
    return {"scale": _each(y, lambda v: 1 / v), "offset": 0.0} if kind in ("truediv", "divide") else {}


def _reflected(kind: str, constant: Any) -> dict[str, Any]:
    """constant (operation) x."""
    if not _is_number(constant):
        return {}
    if kind in ("subtract", "sub"):
        return {"scale": -1.0, "offset": constant}
    return _rescaled(kind, constant) if kind in ("add", "multiply", "mul") else {}


def _pooling(entry: dict[str, Any], function: str, source: list[Any], options: dict[str, Any]) -> dict[str, Any] | None:
    axes = options.get("axis")
    rank = len(axes) if isinstance(axes, list) else 0
    if not 1 <= rank <= 3 or axes != list(range(1, rank + 1)) or not set(options) <= {"axis", "keepdims", "name"}:
        return None
    kind = "Average" if function.endswith("mean") else "Max"
    keepdims = bool(options.get("keepdims"))
    return _layer(
        entry, f"Global{kind}Pooling{rank}D", {"keepdims": keepdims, "data_format": "channels_last"}, [source]
    )


def _layer(entry: dict[str, Any], kind: str, settings: dict[str, Any], sources: list[list[Any]]) -> dict[str, Any]:
    node = [[*source[:3], {}] for source in sources]
    named = {"name": entry["name"], "trainable": True, "dtype": "float32"}
    return {"class_name": kind, "name": entry["name"], "config": {**named, **settings}, "inbound_nodes": [node]}


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, (int, float)) for v in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _each(value: Any, function: Any) -> Any:
    return [function(v) for v in value] if isinstance(value, list) else function(value)
