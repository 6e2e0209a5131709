"""Models survive the disk whole, or are refused in one line."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import heatproof as hp
from heatproof.errors import FileError, UsageError
from heatproof.files import writing
from heatproof.models import folder
from heatproof.models.card import Card, card_of
from heatproof.models.factory import factory_file, resolve_factory
from heatproof.registry import Spec

CARD = Card(
    Spec("mnist1d-cnn", (("filters", 4), ("kernels", (3,)))),
    (1, 40),
    tuple("0123456789"),
    data="mnist1d:seed=1",
    recipe={"name": "fast", "epochs": 3, "patience": None},
    metrics={"test_accuracy": 0.5},
    seed=7,
)


def make() -> nn.Module:
    return hp.nets.build(CARD.architecture)


def tied() -> nn.Module:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, nn.BatchNorm1d(4), second)


def not_a_model() -> int:
    return 3


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return hp.save(make(), tmp_path / "model", CARD)


@pytest.mark.parametrize("part", ["", "model.safetensors", "card.json", ".."])
def test_a_model_comes_back_by_folder_file_and_run(tmp_path: Path, part: str) -> None:
    model = make()
    folder = hp.save(model, tmp_path / "model", CARD)
    state = torch.get_rng_state()
    loaded = hp.load((folder / part).resolve())
    assert torch.get_rng_state().equal(state)
    assert not loaded.training
    x = torch.randn(3, 1, 40)
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert card_of(loaded) == CARD
    assert CARD.versions["heatproof"] == hp.__version__


def test_a_loaded_model_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    again = hp.save(hp.load(saved), tmp_path / "again")
    assert (again / "card.json").read_bytes() == (saved / "card.json").read_bytes()
    assert sorted(os.listdir(again)) == ["card.json", "model.safetensors"]


def test_saving_needs_a_card(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="card="):
        hp.save(nn.Linear(2, 2), tmp_path)
    assert not list(tmp_path.iterdir())


def damage(folder: Path, how: str) -> None:
    weights, card = folder / "model.safetensors", folder / "card.json"
    page = json.loads(card.read_text())
    if how == "no weights":
        weights.unlink()
    elif how == "no card":
        card.unlink()
    elif how == "short weights":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif how == "short card":
        card.write_text(card.read_text()[:100])
    elif how == "binary card":
        card.write_bytes(bytes(range(256)))
    elif how == "foreign card":
        card.write_text('{"model_type": "bert"}')
    elif how == "list card":
        card.write_text("[1, 2]")
    elif how == "newer":
        card.write_text(json.dumps(page | {"format": 2}))
    elif how == "no classes":
        card.write_text(json.dumps({k: v for k, v in page.items() if k != "classes"}))
    elif how == "bad option":
        card.write_text(json.dumps(page | {"architecture": {"name": "mnist1d-cnn", "options": {"colour": 3}}}))
    elif how == "bad shape":
        card.write_text(json.dumps(page | {"input_shape": "wide"}))
    elif how == "other network":
        card.write_text(json.dumps(page | {"architecture": {"name": "os:system", "options": {}}}))
    elif how == "other sizes":
        card.write_text(json.dumps(page | {"architecture": {"name": "mnist1d-cnn", "options": {}}}))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no weights", "missing"),
        ("no card", "missing"),
        ("short weights", "truncated"),
        ("short card", "truncated or not JSON"),
        ("binary card", "truncated or not JSON"),
        ("foreign card", "not a heatproof model card"),
        ("list card", "not a heatproof model card"),
        ("newer", "update heatproof"),
        ("no classes", "damaged"),
        ("bad option", "colour"),
        ("bad shape", "damaged"),
        ("other network", "factory="),
        ("other sizes", "do not fit"),
    ],
)
def test_a_damaged_model_is_one_clear_error(saved: Path, how: str, says: str) -> None:
    damage(saved, how)
    with pytest.raises(FileError, match=says) as caught:
        hp.load(saved)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nothing at"):
        hp.load(tmp_path / "absent")
    with pytest.raises(FileError, match=r"holds no model; expected card.json and model.safetensors"):
        hp.load(tmp_path)
    note = tmp_path / "notes.txt"
    note.write_text("hello")
    with pytest.raises(FileError, match="not a model"):
        hp.load(note)
    bare = tmp_path / "weights.safetensors"
    safetensors.torch.save_model(make(), str(bare))
    with pytest.raises(FileError, match="factory="):
        hp.load(bare)


def test_a_users_factory_with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_nets.py").write_text(
        "from torch import nn\n\ndef small():\n    return nn.Linear(4, 3)\n\nnumber = 3\n\ndef wrong():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = nn.Linear(4, 3)
    safetensors.torch.save_model(model, str(tmp_path / "w.safetensors"))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "w.ckpt")
    x = torch.randn(2, 4)
    for name in ("w.safetensors", "w.pt", "w.ckpt"):
        loaded = resolve_factory("their_nets:small", weights=tmp_path / name)
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
        torch.testing.assert_close(hp.load(tmp_path / name, factory="their_nets:small")(x), model(x), rtol=0, atol=0)
    assert factory_file("their_nets:small") == tmp_path / "their_nets.py"
    assert factory_file("absent_nets:small") is factory_file("timm:resnet18:x") is factory_file(str(tmp_path)) is None
    for wrong, says in (
        ("their_nets", "package.module:name"),
        ("their_nets:large", "no 'large'"),
        ("absent_nets:small", "cannot import"),
        ("their_nets:number", "expected a function"),
        ("their_nets:wrong", "expected a torch.nn.Module"),
    ):
        with pytest.raises(UsageError, match=says):
            resolve_factory(wrong)
    with pytest.raises(FileError, match="do not fit"):
        resolve_factory(lambda: nn.Linear(5, 3), weights=tmp_path / "w.safetensors")
    with pytest.raises(FileError, match="no weights"):
        resolve_factory(lambda: nn.Linear(5, 3), weights=tmp_path / "absent.safetensors")


class Bomb:
    """Does harm when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_unpickled(tmp_path: Path, zipped: bool) -> None:
    mark, file = tmp_path / "mark", tmp_path / "bomb.pt"
    if zipped:
        torch.save(Bomb(mark), file)
    else:
        file.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(FileError, match=r"not a plain state dict|never loaded"):
        resolve_factory(make, weights=file)
    assert not mark.exists()


def test_tied_weights_and_buffers_survive(tmp_path: Path) -> None:
    model = tied()
    model(torch.randn(8, 4))
    hp.save(model, tmp_path, Card(Spec("mine:tied"), (4,), ("a", "b", "c", "d")))
    loaded = hp.load(tmp_path, factory=tied)
    x = torch.randn(5, 4)
    torch.testing.assert_close(loaded(x), model.eval()(x), rtol=0, atol=0)
    assert loaded[0].weight is loaded[2].weight


@pytest.mark.parametrize(
    ("code", "says"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "cannot write .*Permission denied")]
)
def test_a_failed_write_leaves_the_old_model(
    saved: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def fail(model: nn.Module, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(safetensors.torch, "save_model", fail)
    with pytest.raises(FileError, match=says) as caught:
        hp.save(make(), saved, CARD)
    assert "\n" not in str(caught.value)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


def test_writing_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="cannot write"), writing(tmp_path / "file" / "card.json") as part:
        part.write_text("y")


def test_writing_cleans_up_after_any_exception(tmp_path: Path) -> None:
    def interrupted() -> None:
        with writing(tmp_path / "card.json") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_written_files_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    """A file made for its owner alone, as safetensors makes them, is opened to whom the umask lets in."""
    (tmp_path / "plain").touch()
    with writing(tmp_path / "file") as part:
        part.unlink()
        part.touch(mode=0o600)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_results_of_a_study_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UsageError) as caught:
        folder.load(tmp_path)
    assert str(caught.value) == (
        f"{str(tmp_path)!r} holds the results of a study, expected a model; "
        "give the run's folder, or read the results with heatproof.load"
    )
