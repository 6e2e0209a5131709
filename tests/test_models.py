"""Models from elsewhere: what is known of them, what names them, and data that has to fit them."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import heatproof as hp
from heatproof.cli import main
from heatproof.errors import FileError, InputError, UnknownName, UsageError
from heatproof.models import names as models
from heatproof.models import zoo
from heatproof.models.card import Card, attach, card_of, numbered
from heatproof.models.formats.pt2 import save_exported
from heatproof.nets import build
from heatproof.pipeline.match import matched, sized
from heatproof.probe import HeatproofWarning
from heatproof.records import Samples, Splits
from heatproof.registry import Spec
from heatproof.results import storage

FILES = Path(__file__).parent / "files"
VOLUME = FILES / "keras2_volume.h5"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a command: exit code, standard output, the one line of an error."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(lines) == bool(code), err
        assert "Traceback" not in err
        return code, out, "".join(lines)

    return call


# What is known of them


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [("signal.h5", (1, 40), 4), ("image.h5", (3, 15, 14), 5), ("volume.h5", (2, 9, 8, 7), 3)],
)
def test_a_keras_file_has_a_card(keras: Any, name: str, shape: tuple[int, ...], count: int) -> None:
    card = card_of(hp.load(FILES / f"keras2_{name}"))
    assert card is not None
    assert (card.input_shape, card.classes) == (shape, numbered(count))
    assert card.architecture.name.startswith("keras-")
    assert card.date == "not recorded"


def test_unknown_lengths_and_a_single_output(keras: Any, tmp_path: Path) -> None:
    L = keras.layers
    model = keras.Sequential(
        [keras.Input((None, None, 3)), L.Conv2D(2, 3), L.GlobalMaxPooling2D(), L.Dense(1, activation="sigmoid")]
    )
    model.save(tmp_path / "two.keras")
    card = card_of(hp.load(tmp_path / "two.keras", classes=("benign", "malignant")))
    assert card is not None
    assert (card.input_shape, card.classes) == ((3, None, None), ("benign", "malignant"))


def test_an_exported_program_has_a_card(tmp_path: Path) -> None:
    save_exported(build("mnist1d-cnn"), tmp_path / "m.pt2", (1, 40))
    card = card_of(hp.load(tmp_path / "m.pt2"))
    assert card is not None
    assert (card.input_shape, card.classes) == ((1, 40), numbered(10))


def test_outputs_are_named_in_order_and_once(keras: Any) -> None:
    card = card_of(hp.load(VOLUME, classes=("air", "bone", "fat")))
    assert card is not None
    assert card.classes == ("air", "bone", "fat")
    with pytest.raises(UsageError, match=r"got 2 names \(air, bone\) for a model with 3 outputs"):
        hp.load(VOLUME, classes=("air", "bone"))
    with pytest.raises(UsageError, match="a different name"):
        hp.load(VOLUME, classes=("air", "bone", "air"))


# What names them


@pytest.fixture
def library() -> str:
    pytest.importorskip("torchvision")
    return "shufflenet_v2_x0_5"


@pytest.fixture
def five(library: str, tmp_path: Path) -> tuple[nn.Module, Path]:
    """A network of torchvision with five classes, and its weights."""
    net = zoo.build(f"torchvision:{library}", classes=5)
    save_file(net.state_dict(), tmp_path / "five.safetensors")
    return net, tmp_path / "five.safetensors"


@pytest.mark.parametrize("name", ["{}", "torchvision:{}"])
def test_a_network_of_a_library_with_weights_of_another_number_of_classes(
    library: str, five: tuple[nn.Module, Path], name: str
) -> None:
    net, weights = five
    with pytest.warns(HeatproofWarning, match="weights of 1000 classes expect it"):
        network = models.model(name.format(library), weights=weights, classes=tuple("abcde"))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), net(x))
    card = card_of(network)
    assert card is not None
    assert (str(card.architecture), card.classes) == (f"torchvision:{library}", tuple("abcde"))


@pytest.mark.filterwarnings("ignore:.*images go through", "ignore:The default weight init")
@pytest.mark.parametrize(
    ("classes", "preprocessing", "expected", "says"),
    [
        (1000, None, True, None),
        (1000, "IMAGENET1K_V1", True, None),
        (1000, "imagenet:resize=256,crop=224", True, None),
        (1000, "signed", False, "transform_input=False"),
        (1000, "none", True, "transform_input=True"),
        (5, None, True, "transform_input=True"),
        (5, "IMAGENET1K_V1", True, None),
    ],
)
def test_inputs_are_rescaled_inside_a_network_as_torchvision_does_with_its_weights(
    classes: int, preprocessing: str | None, expected: bool, says: str | None, library: str, tmp_path: Path
) -> None:
    from torchvision.models import get_model

    net = get_model("googlenet", init_weights=False, num_classes=classes).eval()
    torch.save(net.state_dict(), tmp_path / "w.pt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = models.model("torchvision:googlenet", weights=tmp_path / "w.pt", preprocessing=preprocessing)
    assert [says in str(w.message) for w in caught if "transform_input" in str(w.message)] == [True] * (
        says is not None
    )
    net.transform_input = expected
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), net(x))


@pytest.mark.parametrize("form", ["plain", "unversioned", "nested", "safetensors"])
def test_weights_of_a_network_that_has_versions(form: str, library: str, tmp_path: Path) -> None:
    from torchvision.models import get_model

    net, weights = get_model("mnasnet0_5", num_classes=5).eval(), tmp_path / "w.pt"
    bare = dict(net.state_dict())
    if form == "safetensors":
        save_file(bare, weights := tmp_path / "w.safetensors")
    else:
        nested = {"state_dict": nn.ModuleDict({"model": net}).state_dict()}
        torch.save({"plain": net.state_dict(), "unversioned": bare, "nested": nested}[form], weights)
    network = zoo.build("torchvision:mnasnet0_5", weights=weights, classes=5)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), net(x))
    with pytest.raises(FileError, match="do not fit"):
        zoo.build("torchvision:mnasnet0_75", weights=weights, classes=5)


def test_networks_that_cannot_be_meant(library: str, five: tuple[nn.Module, Path]) -> None:
    with pytest.raises(UsageError, match="untrained without weights; pass a local file"):
        models.model(library)
    with pytest.raises(FileError, match="no weights at"):
        models.model(library, weights="nowhere.safetensors")
    with pytest.raises(FileError, match="do not fit the network"):
        models.model("torchvision:squeezenet1_1", weights=five[1])
    with pytest.raises(UnknownName, match="did you mean 'resnet18'"):
        models.model("torchvision:resnet19", weights=five[1])
    with pytest.raises(FileError, match="nothing at 'resnet19'"):
        models.model("resnet19")


def test_weights_go_with_a_network_only(keras: Any, five: tuple[nn.Module, Path]) -> None:
    with pytest.raises(UsageError, match="got --weights, but --model"):
        models.model(str(VOLUME), weights=five[1])


# Data that has to fit them


def splits(classes: tuple[str, ...], shape: tuple[int, ...] = (3, 8, 8)) -> Splits:
    y = torch.arange(len(classes)).repeat(2)
    samples = Samples(torch.rand(len(y), *shape), y, classes=classes, name="tiles")
    return Splits(samples, samples)


def net(classes: tuple[str, ...], shape: tuple[int | None, ...] = (3, 8, 8)) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, len(classes)))
    attach(model, Card(Spec("elsewhere"), shape, classes))
    return model


def test_classes_go_by_name() -> None:
    renamed = matched(splits(("fat", "air")), net(("air", "bone", "fat")))
    assert renamed.classes == ("air", "bone", "fat")
    assert renamed.test.y.tolist() == [2, 0, 2, 0]
    same = splits(("air", "fat"))
    assert matched(same, net(("air", "fat"))) is same


def test_unnamed_outputs_take_the_names_of_the_data() -> None:
    model, data = net(numbered(2)), splits(("air", "fat"))
    assert matched(data, model) is data
    card = card_of(model)
    assert card is not None
    assert card.classes == ("air", "fat")


@pytest.mark.parametrize(
    ("data", "model", "message"),
    [
        (
            ("air", "fat"),
            numbered(3),
            r"tiles: has 2 classes \(air, fat\), the model has 3 outputs; .* --classes a,b,c",
        ),
        (("air", "skin"), ("air", "fat"), r"no output skin but air, fat; .* --classes"),
    ],
)
def test_classes_that_disagree_are_named(data: tuple[str, ...], model: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        matched(splits(data), net(model))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 9, 9), r"inputs are 3 x 9 x 9, the model takes 3 x 8 x 8; resize them with --data name:size=8\+8"),
        ((1, 8, 8), "inputs are 1 x 8 x 8, the model takes 3 x 8 x 8"),
        ((3, 64), "inputs are 3 x 64, the model takes 3 x 8 x 8"),
    ],
)
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        matched(splits(("a", "b"), shape), net(("a", "b")))


def test_images_are_read_at_the_size_the_model_takes() -> None:
    assert str(sized(Spec("folder"), net(("a", "b"), (1, 96, 80)))) == "folder:channels=1,size=96+80"
    assert str(sized(Spec.parse("folder:size=64"), net(("a", "b"), (3, 96, 80)))) == "folder:size=64"
    assert str(sized(Spec("folder"), net(("a", "b"), (3, None, None)))) == "folder"
    assert str(sized(Spec("mnist1d"), net(("a", "b"), (3, 96, 80)))) == "mnist1d"


# On the command line


def tree(root: Path, classes: tuple[str, ...]) -> Path:
    """A tree of grey squares, lighter with every class."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (20, 20), (40 + 60 * label + i,) * 3).save(root / name / f"{i}.png")
    return root


def brightness(keras: Any) -> Any:
    """Classes by brightness, darkest first, from images of 12 x 10."""
    L = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12, 10, 3)),
            L.Conv2D(2, 1, activation="relu", name="first"),
            L.GlobalAveragePooling2D(),
            L.Dense(3, activation="softmax", name="last"),
        ]
    )
    first, last = model.get_layer("first"), model.get_layer("last")
    first.set_weights([torch.ones(1, 1, 3, 2).numpy() / 3, torch.zeros(2).numpy()])
    steep = torch.tensor([[-100.0, 0.0, 100.0], [0.0, 0.0, 0.0]])
    last.set_weights([steep.numpy(), torch.tensor([30.0, 0.0, -50.0]).numpy()])
    return model


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_keras_file_is_evaluated_on_a_folder(keras: Any, command: Any, tmp_path: Path, suffix: str) -> None:
    brightness(keras).save(tmp_path / f"net{suffix}")
    tree(tmp_path / "tiles", ("dark", "grey", "light"))
    words = ["evaluate", "--model", f"net{suffix}", "--data", "folder:test=0.4", "--path", "tiles"]
    code, out, _ = command(*words)
    assert code == 0
    assert "1.000" in out
    code, out, _ = command(*words, "--classes", "light,grey,dark")
    assert code == 0
    assert "0.333" in out
    assert "no output dark" in command(*words, "--classes", "a,b,c")[2]
    assert "got 2 names" in command(*words, "--classes", "a,b")[2]
    assert "resize them with --data name:size=12+10" in command(*words, "--data", "folder:size=16")[2]
    tree(tmp_path / "more", ("a", "b"))
    assert "has 2 classes (a, b), the model has 3 outputs" in command(*words, "--path", "more")[2]


def test_a_keras_file_from_tiles_to_report(keras: Any, command: Any, tmp_path: Path) -> None:
    brightness(keras).save(tmp_path / "net.keras")
    tree(tmp_path / "tiles", ("dark", "grey", "light"))
    words = ["--model", "net.keras", "--data", "folder:test=0.4", "--path", "tiles", "--layer", "first", "-q"]
    few = ["--methods", "grad-cam,ablation-cam,saliency", "--metrics", "average-drop,deletion", "--fill", "black"]
    code, _, _ = command("run", *words, *few, "--out", "run")
    assert code == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "keras-sequential" in page
    assert "light" in page
    assert set(storage.load(Path("run/study")).classes) == {"dark", "grey", "light"}


def test_classes_without_a_model_are_refused(command: Any) -> None:
    code, _, line = command("run", "--classes", "a,b")
    assert code == 2
    assert "--classes without --model" in line


def test_models_leave_by_the_ending_of_the_file(keras: Any, command: Any, tmp_path: Path) -> None:
    x = torch.rand(2, 2, 9, 8, 7)
    with torch.no_grad():
        want = hp.load(VOLUME)(x)
        for name in ("out.keras", "out.pt2"):
            code, out, _ = command("export", VOLUME, "--to", name)
            assert code == 0
            assert "class 0, class 1, class 2" in out
            torch.testing.assert_close(hp.load(name)(x), want, rtol=0, atol=1e-5)
    for words, message in (
        (["--to", "out.xyz"], "expected a name that ends in .keras, .h5, .onnx, .pt2"),
        (["--to", "out.keras", "--shape", "3,x"], "--shape: got '3,x'"),
        (["--to", "out.keras", "--weights", "w.safetensors"], "got --weights, but --model"),
    ):
        code, _, line = command("export", VOLUME, *words)
        assert code == 2
        assert message in line


def test_a_keras_model_takes_a_batch_of_symbolic_size() -> None:
    batch = torch.export.Dim("batch")
    model = hp.load(VOLUME)
    for _ in range(8):  # the tests' type checker looks at one random entry of a shape
        torch.export.export(model, (torch.zeros(2, 2, 9, 8, 7),), dynamic_shapes=({0: batch},))


def test_a_model_of_unknown_input_needs_a_shape(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pass it, channels first"):
        models.write(nn.Linear(2, 2), tmp_path / "m.pt2")


UNFIT: dict[str, Callable[[], object]] = {"text": lambda: "no module", "nothing": lambda: None}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_factory_has_to_return_a_module(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heatproof.models.names.unfit", UNFIT[kind], raising=False)
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
        models.model("heatproof.models.names:unfit")


@pytest.mark.parametrize("name", ["out.keras", "out.h5", "out.onnx", "out.pt2"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    keras: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    code, _, line = command("export", VOLUME, "--to", name)
    assert code == 1
    assert f"no space left to write {name!r}" in line
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_on_its_data_leaves_its_folder_free(command: Any, tmp_path: Path) -> None:
    tree(tmp_path / "one", ("a",))
    for path in ("nowhere", "one"):
        assert command("run", "--data", "folder", "--path", path, "--out", "run")[0] == 1
        assert not (tmp_path / "run").exists()
