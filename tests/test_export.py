"""The ways out and in for models: Keras and ONNX files, exported programs, networks of torchvision and timm by name."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.errors import FileError, UnknownName, UsageError
from heatproof.models import zoo
from heatproof.models.formats.keras import save_keras
from heatproof.models.formats.onnx import save_onnx
from heatproof.models.formats.pt2 import load_exported, save_exported

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def lively(model: nn.Module) -> nn.Module:
    """The model with normalisation statistics that matter, in evaluation mode."""
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
    return model.eval()


def conv(rank: int, *args: int, **options: Any) -> nn.Module:
    return (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](*args, **options)


def plain(rank: int) -> nn.Module:
    """Named blocks, flattened features into a dense layer, softmax inside."""
    pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[rank - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1]
    first = nn.Sequential(OrderedDict(conv=conv(rank, 2, 4, 3, padding="same"), relu=nn.ReLU()))
    second = nn.Sequential(OrderedDict(conv=conv(rank, 4, 6, 2, stride=2, groups=2), act=nn.GELU()))
    last = nn.Sequential(OrderedDict(linear=nn.Linear(6 * (2 if rank == 3 else 3) ** rank, 3), softmax=nn.Softmax(1)))
    parts = {"block": first, "norm": norm(4), "pool": pool(2), "block_1": second, "drop": nn.Dropout(0.3)}
    return nn.Sequential(OrderedDict(**parts, flatten=nn.Flatten(), slope=nn.LeakyReLU(0.1), dense=last))


class Branches(nn.Module):
    """Functional calls: constants, a residual branch, a gate, concatenation, padded pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.side = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.gate = nn.Conv2d(4, 4, 1)
        self.dense = nn.Linear(8, 3)
        self.register_buffer("mean", torch.tensor([0.2, 0.4, 0.6])[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem((x - self.mean) / 0.3 * 2 + 0.1)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = x + torch.tanh(self.side(x))
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        x = torch.cat([x, F.avg_pool2d(x, 3, stride=1, padding=1)], dim=1)
        return self.dense(x.mean((2, 3)))


class Features(nn.Module):
    """Flattened features that not only a dense layer reads, so that their order matters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.conv(x), 1)


def transposed(rank: int, **options: Any) -> nn.Module:
    """A transposed convolution between a named activation and a dense layer."""
    conv = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1](2, 3, **options)
    first = nn.Sequential(OrderedDict(conv=conv, activation=nn.ReLU()))
    return nn.Sequential(OrderedDict(up=first, flatten=nn.Flatten(), dense=nn.LazyLinear(3)))


SIZE = {1: (2, 12), 2: (2, 13, 12), 3: (2, 9, 10, 9)}
CASES: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: plain(1), SIZE[1]),
    (lambda: plain(2), SIZE[2]),
    (lambda: plain(3), SIZE[3]),
    (Branches, (3, 17, 18)),
    (Features, (2, 9)),
]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(("build", "shape"), CASES)
def test_keras_reads_what_was_exported_and_predicts_the_same(
    keras: Any, tmp_path: Path, build: Callable[[], nn.Module], shape: tuple[int, ...], suffix: str
) -> None:
    model = lively(build())
    path = save_keras(model, tmp_path / f"model{suffix}", shape)
    x = torch.rand(5, *shape)
    got = keras.saving.load_model(path, compile=False).predict(x.movedim(1, -1).numpy(), verbose=0)
    with torch.no_grad():
        np.testing.assert_allclose(got, model(x).numpy(), rtol=0, atol=1e-5)
    assert os.listdir(tmp_path) == [path.name]


TRANSPOSED: list[tuple[int, dict[str, Any]]] = [
    (1, {"kernel_size": 3}),
    (1, {"kernel_size": 2, "stride": 3, "output_padding": 1}),
    (1, {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1}),
    (1, {"kernel_size": 3, "dilation": 2, "padding": 1, "bias": False}),
    (2, {"kernel_size": (4, 3), "stride": 2, "padding": 1}),
    (2, {"kernel_size": 2, "stride": 2}),
    (3, {"kernel_size": (4, 3, 1), "stride": (2, 1, 3), "padding": (1, 1, 0), "output_padding": (0, 0, 2)}),
]


@pytest.mark.parametrize(("rank", "options"), TRANSPOSED)
def test_transposed_convolutions_can_leave(keras: Any, tmp_path: Path, rank: int, options: dict[str, Any]) -> None:
    shape = (2, *(6, 5, 4)[:rank])
    model = transposed(rank, **options)
    model(torch.zeros(1, *shape))
    path = save_keras(lively(model), tmp_path / "model.keras", shape)
    x = torch.randn(2, *shape)
    got = keras.saving.load_model(path, compile=False).predict(x.movedim(1, -1).numpy(), verbose=0)
    with torch.no_grad():
        np.testing.assert_allclose(got, model(x).numpy(), rtol=0, atol=1e-5)


def test_transposed_convolutions_that_keras_lacks_are_refused(keras: Any, tmp_path: Path) -> None:
    for rank, odd in ((1, {"stride": 2, "dilation": 2}), (2, {"dilation": 2, "output_padding": 1})):
        model = transposed(rank, kernel_size=2, **odd)
        shape = (2, *(6, 5)[:rank])
        model(torch.zeros(1, *shape))
        with pytest.raises(UsageError, match=r"ConvTranspose.d.* has no Keras layer"):
            save_keras(model, tmp_path / "model.keras", shape)


def test_blocks_keep_their_names_there_and_back(keras: Any, tmp_path: Path) -> None:
    from heatproof.models.formats.keras import load_keras

    model = lively(plain(2))
    path = save_keras(model, tmp_path / "model.keras", SIZE[2])
    names = [part.name for part in keras.saving.load_model(path).layers]
    assert names == ["input", "block", "norm", "pool", "block_1", "flatten", "slope", "dense"]
    back = load_keras(path)
    x = torch.rand(2, *SIZE[2])
    with torch.no_grad():
        torch.testing.assert_close(back.get_submodule("block")(x), model.get_submodule("block")(x))
        torch.testing.assert_close(back(x), model(x))


@pytest.mark.parametrize("name", ["mnist1d-cnn", "vgg-7", "small-cnn"])
def test_networks_trained_here_can_leave(keras: Any, tmp_path: Path, name: str) -> None:
    from heatproof.nets import build, nets

    channels, *size = nets[name].input_shape
    shape = (channels, *(min(length, 40) for length in size))
    model = lively(build(name))
    path = save_keras(model, tmp_path / "model.keras", shape)
    x = torch.rand(2, *shape)
    got = keras.saving.load_model(path, compile=False).predict(x.movedim(1, -1).numpy(), verbose=0)
    with torch.no_grad():
        np.testing.assert_allclose(got, model(x).numpy(), rtol=0, atol=1e-5)


def test_what_keras_cannot_do_exactly_is_refused_and_leaves_nothing(keras: Any, tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict(odd=nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular"), flat=nn.Flatten()))
    with pytest.raises(
        UsageError, match=r"'odd' \(Conv1d\) has no Keras layer that computes exactly the same"
    ) as caught:
        save_keras(model, tmp_path / "model.keras", (1, 8))
    assert "\n" not in str(caught.value)
    signed = nn.Sequential(nn.Conv1d(1, 2, 3), nn.MaxPool1d(3, 2, padding=1), nn.Flatten())
    with pytest.raises(UsageError, match="MaxPool1d"):
        save_keras(signed, tmp_path / "model.keras", (1, 12))
    with pytest.raises(UsageError, match=r"ends in \.keras or \.h5"):
        save_keras(signed, tmp_path / "model.zip", (1, 11))
    with pytest.raises(UsageError, match="cannot be rebuilt in Keras"):
        save_keras(signed, tmp_path / "model.keras", (3, 11))
    assert os.listdir(tmp_path) == []


def test_exporting_leaves_the_model_alone(keras: Any, tmp_path: Path) -> None:
    model = plain(1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_keras(model, tmp_path / "model.keras", SIZE[1])
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(("build", "shape"), CASES[:1] + CASES[3:4])
def test_onnx_predicts_the_same_for_any_batch(
    tmp_path: Path, build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    reference = pytest.importorskip("onnx.reference", reason="needs the extra heatproof[onnx]")
    pytest.importorskip("onnxscript", reason="needs the extra heatproof[onnx]")
    model = lively(build())
    path = save_onnx(model, tmp_path / "model.onnx", shape)
    session = reference.ReferenceEvaluator(str(path))
    for n in (1, 3):
        x = torch.rand(n, *shape)
        with torch.no_grad():
            want = model(x).numpy()
        np.testing.assert_allclose(session.run(["output"], {"input": x.numpy()})[0], want, rtol=0, atol=1e-5)
    assert os.listdir(tmp_path) == ["model.onnx"]


class Choosy(nn.Module):
    """Decides by the data, which no traced program can."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


def test_what_cannot_be_traced_is_refused_in_one_line(keras: Any, tmp_path: Path) -> None:
    for write, suffix in ((save_onnx, ".onnx"), (save_exported, ".pt2"), (save_keras, ".keras")):
        with pytest.raises(UsageError, match="cannot be") as caught:
            write(Choosy(), tmp_path / f"model{suffix}", (1, 4))
        assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_an_exported_program_comes_back_with_its_names(tmp_path: Path) -> None:
    import heatproof as hp

    model = lively(plain(2))
    path = save_exported(model, tmp_path / "model.pt2", SIZE[2])
    back = hp.load(path)
    assert isinstance(back, nn.Module)
    assert {"block", "block.conv", "block.relu", "dense.linear"} <= {name for name, _ in back.named_modules()}
    seen: list[Tensor] = []
    hook = back.get_submodule("block").register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        for n in (1, 4):
            x = torch.rand(n, *SIZE[2])
            torch.testing.assert_close(back(x), model(x))
        torch.testing.assert_close(seen[-1], model.get_submodule("block")(x))
    hook.remove()
    assert not back.training


def forged(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """An exported program with its archive changed."""
    save_exported(nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()), path, (1, 8))
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


class Trap:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch trapped",))


def set_trap(parts: dict[str, bytes]) -> None:
    name = next(name for name in parts if "sample_inputs" in name)
    held = io.BytesIO()
    torch.save(Trap(), held)
    parts[name] = held.getvalue()


def pickled_weights(parts: dict[str, bytes]) -> None:
    name = next(name for name in parts if name.endswith("model_weights_config.json"))
    config = json.loads(parts[name])
    for entry in config["config"].values():
        entry["use_pickle"] = True
        parts[name.rpartition("/")[0] + "/" + entry["path_name"]] = pickle.dumps(Trap())
    parts[name] = json.dumps(config).encode()


def replaced(old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        name = next(name for name in parts if name.endswith("models/model.json"))
        text = parts[name].decode()
        assert old in text
        parts[name] = text.replace(old, new).encode()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_trap, "pickled objects"),
        (pickled_weights, "pickled objects"),
        (replaced("torch.ops.aten.relu.default", "torch.hub.load"), "operation 'torch.hub.load'"),
        (replaced("torch.ops.aten.relu.default", "os.system"), "operation 'os.system'"),
        (replaced('"expr_str": "', '"expr_str": "__import__(1)+'), "size expression"),
        (replaced('"relu"', "\"a=__import__('os')\""), "name"),
        (lambda parts: parts.update({"model/data/aotinductor/model/code.so": b""}), "compiled code"),
    ],
)
def test_a_program_with_anything_else_inside_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, bytes]], None], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = forged(tmp_path / "model.pt2", change)
    with pytest.raises(FileError, match=message) as caught:
        load_exported(path)
    assert "model.pt2" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["model.pt2"]


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"PK\x03\x04 no", "truncated"), (b"GIF89a", "not a")]
)
def test_broken_programs_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.pt2"
    path.write_bytes(content)
    with pytest.raises(FileError, match=rf"bad\.pt2.*{message}"):
        load_exported(path)
    with pytest.raises(FileError, match=r"none\.pt2"):
        load_exported(tmp_path / "none.pt2")


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_networks_by_name_with_local_weights(tmp_path: Path, library: str) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    model = zoo.build(f"{library}:resnet18", classes=3)
    assert not model.training
    safetensors.torch.save_model(model, str(tmp_path / "w.safetensors"))
    again = zoo.build(f"{library}:resnet18", weights=tmp_path / "w.safetensors", classes=3)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x))
    with pytest.raises(FileError, match="do not fit the network"):
        zoo.build(f"{library}:resnet18", weights=tmp_path / "w.safetensors", classes=4)
    with pytest.raises(UnknownName, match=rf"network of {library} 'resnt18'; did you mean 'resnet18'"):
        zoo.build(f"{library}:resnt18")


def test_networks_by_name_without_a_library_are_refused() -> None:
    with pytest.raises(UsageError, match="expected library:name such as 'torchvision:resnet18'"):
        zoo.build("resnet18")
    with pytest.raises(UnknownName, match="known: timm, torchvision"):
        zoo.build("hub:resnet18")
    with pytest.raises(UsageError, match="classes=0"):
        zoo.build("torchvision:resnet18", classes=0)
