"""Programs of torch.export (.pt2) as modules, read without unpickling and without running anything they contain.

`torch.export.load` falls back to full unpickling, evaluates the expressions of symbolic sizes, and compiles the names
and guards it finds. So the archive is taken apart first: only plain tensors, ATen operations, simple names and simple
size expressions are let through, into a clean archive that torch then reads.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heatproof.errors import FileError, UsageError, first_line
from heatproof.files import writing
from heatproof.models.card import Card, attach, foreign
from heatproof.models.formats.parity import agree, plain_copy, quiet
from heatproof.registry import Spec

_LIMIT = 1 << 28
_OPERATION = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.ops\.higher_order\.wrap_with_(set_grad_enabled|autocast)"
    r"|_?operator\.(add|sub|mul|floordiv|truediv|mod|neg|getitem|eq|ne|le|lt|ge|gt)|math\.(ceil|floor|sqrt|trunc)"
)
_NAME, _PATH = re.compile(r"([A-Za-z_]\w*)?"), re.compile(r"[\w.]*")
_PATHS = ("parameter_name", "buffer_name", "tensor_constant_name", "fqn")
_SYMBOL = r"Symbol\('[su]\d+'(, (positive|nonnegative|integer)=True)*\)"
_SIZES = "Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|int_oo|oo"
_EXPRESSION = re.compile(rf"({_SYMBOL}|[su]\d+|{_SIZES}|\d+|[-+*/(), ])*")
_STACK = re.compile(r"[\w.,;: @<>\[\]()'\"-]*")
_FREE_TEXT = ("torch_version", "source_fn_stack", "stack_trace", "from_node")


def load_exported(path: str | os.PathLike[str]) -> nn.Module:
    """The program in a .pt2 file as a module in evaluation mode; submodules keep the names they had when exported.

    Raises: FileError where the file is missing, truncated, foreign, of another torch, or asks for anything but ATen
        operations on plain tensors.
    """
    path = Path(path)
    archive = _vetted(path)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(archive)
            model = torch.export.unflatten(program)
            card = _card(program)
    except Exception as error:  # torch raises anything for archives of another version
        raise FileError(f"torch {torch.__version__} cannot read {str(path)!r}: {first_line(error)}") from error
    attach(model, card)
    return model.eval()


def _card(program: Any) -> Card:
    """What the program's signature tells: the shape of one sample, and how many classes there are."""
    signature = program.graph_signature
    shapes = {node.name: tuple(getattr(node.meta.get("val"), "shape", ())) for node in program.graph.nodes}
    inputs, outputs = (
        shapes.get(next(iter(names), ""), ()) for names in (signature.user_inputs, signature.user_outputs)
    )
    sizes = tuple(length if isinstance(length, int) else None for length in inputs[1:])
    count = max(2, outputs[1]) if len(outputs) == 2 and isinstance(outputs[1], int) else 0
    return foreign(Spec("exported-program"), sizes, count)


def save_exported(model: nn.Module, path: str | os.PathLike[str], input_shape: Sequence[int]) -> Path:
    """The path of a .pt2 file that holds the model as a torch.export program for a batch of any size.

    It is read back and must agree with the model on random inputs, or nothing is left behind.

    Raises: UsageError for a model that cannot be exported or another suffix; FileError where it cannot be written.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise UsageError(f"got {path.name!r}, expected a name that ends in .pt2")
    plain = plain_copy(model)
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    with quiet(), torch.random.fork_rng(devices=[]), writing(path) as part:
        try:
            program = torch.export.export(plain, (torch.zeros(2, *input_shape),), dynamic_shapes=({0: batch},))
        except Exception as error:  # tracing runs the user's own code, which may raise anything
            raise UsageError(f"the model cannot be exported: {first_line(error)}") from error
        whole = io.BytesIO()  # torch's own writer ends the process where the disk is full
        torch.export.save(program, whole)
        part.write_bytes(whole.getbuffer())
        with torch.no_grad():
            agree(path, plain, torch.rand(3, *input_shape), load_exported(part))
    return path


def _vetted(path: Path) -> io.BytesIO:
    """A copy of the archive that holds only what has been looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len({entry.filename for entry in entries}) < len(entries):
                raise FileError(f"{str(path)!r} holds two entries of one name; refused")
            bomb = next((e for e in entries if e.file_size > _LIMIT and e.file_size > 100 * e.compress_size), None)
            if bomb is not None:
                raise FileError(f"{str(path)!r}: {bomb.filename!r} unpacks to {bomb.file_size >> 20} MiB; refused")
            parts = {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (zipfile.BadZipFile, EOFError) as error:
        size = path.stat().st_size
        reason = "is empty (0 bytes)" if size == 0 else f"is truncated or not a .pt2 file ({error})"
        raise FileError(f"{str(path)!r} {reason}") from None
    if "models/model.json" not in parts:
        raise FileError(f"{str(path)!r} holds no program named 'model'; save it with torch.export.save")
    clean = io.BytesIO()
    with zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            kept = _entry(path, name, content)
            if kept is not None:
                archive.writestr(f"program/{name}", kept)
    clean.seek(0)
    return clean


def _entry(path: Path, name: str, content: bytes) -> bytes | None:
    """The entry as torch may read it; None where it is not needed."""
    if name == "models/model.json":
        return json.dumps(_program(path, _json(path, name, content))).encode()
    if name.startswith(("data/aotinductor/", "data/executorch/")):
        raise FileError(f"{str(path)!r} holds compiled code ({name}); export the program without it")
    if name.startswith(("data/weights/", "data/constants/")):
        if name.endswith(".json"):
            config = _json(path, name, content)
            if any(entry.get("use_pickle") for entry in config.get("config", {}).values()):
                raise FileError(f"{str(path)!r} holds pickled objects; expected plain tensors only")
            return json.dumps(config).encode()
        return content
    if name.startswith("data/sample_inputs/"):
        try:
            torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except Exception as error:  # UnpicklingError for objects, anything for damage
            raise FileError(f"{str(path)!r} holds pickled objects ({name}); expected plain tensors only") from error
        return content
    verbatim = (
        "archive_format",
        "archive_version",
        "byteorder",
        "version",
        ".data/version",
        ".data/serialization_id",
    )
    return content if name in verbatim else None


def _json(path: Path, name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise FileError(f"{str(path)!r} is damaged: {name} is not JSON") from None


def _program(path: Path, part: Any, key: str = "") -> Any:
    """The program's description, each name and expression in it checked, guards and source excerpts left out."""
    if isinstance(part, dict):
        cleared = {"guards_code": [], "metadata": _stack(part.get("metadata"))}
        for name in part:
            if key in ("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values", "range_constraints"):
                _check(path, _NAME, name, "name")
        return {k: cleared[k] if k in cleared else _program(path, v, k) for k, v in part.items()}
    if isinstance(part, list):
        return [_program(path, v, key) for v in part]
    if isinstance(part, str):
        if key == "target":
            _check(path, _OPERATION if "." in part else _NAME, part, "operation")
        elif key in ("expr_str", "hint"):
            _check(path, _EXPRESSION, part, "size expression")
        elif key in ("in_spec", "out_spec", "input_spec", "output_spec"):
            _check(path, _STACK, part.replace("{", "").replace("}", ""), "tree")
        elif key not in _FREE_TEXT:
            _check(path, _PATH if key in _PATHS else _NAME, part, "name")
    return part


def _stack(metadata: Any) -> dict[str, str]:
    """Which module a node came from: the only part of its metadata that is needed."""
    modules = (metadata or {}).get("nn_module_stack") if isinstance(metadata, dict) else None
    return {"nn_module_stack": modules} if isinstance(modules, str) and _STACK.fullmatch(modules) else {}


def _check(path: Path, pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise FileError(f"{str(path)!r} asks for the {what} {text[:60]!r}; only ATen operations on tensors are read")
