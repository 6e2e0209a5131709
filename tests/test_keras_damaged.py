"""Keras files that are damaged or sly: each is loaded or refused in one line, and none hangs or crashes the reader."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heatproof.errors import FileError, UsageError
from heatproof.models.formats import hdf5
from heatproof.models.formats.keras import load_keras

FILES = Path(__file__).parent / "files"
h5py = pytest.importorskip("h5py")


@pytest.fixture(autouse=True, scope="module")
def _keras() -> None:
    from heatproof.models.formats.keras_files import import_keras

    try:
        import_keras()
    except UsageError as error:
        pytest.skip(str(error))


def changed(source: Path, seed: int) -> bytes:
    """The file cut short, or with a few bits flipped, or with a run of bytes overwritten or lost."""
    draw, content = np.random.default_rng(seed), bytearray(source.read_bytes())
    place = int(draw.integers(len(content)))
    match seed % 4:
        case 0:
            del content[place:]
        case 1:
            for i in draw.integers(2048, size=3):
                content[i] ^= 1 << int(draw.integers(8))
        case 2:
            content[place : place + 40] = draw.integers(0, 256, 40).astype(np.uint8).tobytes()
        case 3:
            del content[place : place + 300]
    return bytes(content)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_loaded_or_refused(tmp_path: Path, suffix: str, seed: int) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(changed(FILES / f"keras2_volume{suffix}", seed))
    said = ""
    try:
        model = load_keras(path)
        assert all(torch.isfinite(weight).all() for weight in model.parameters())
    except FileError as error:
        said = str(error)
    assert "\n" not in said
    assert not said or str(path) in said


PROGRAMS = {
    "while True: pass": "reading it does not end",
    "import time; time.sleep(60)": "reading it does not end",
    "import os; os.abort()": "reading it ends in a crash",
    "print('{')": "reading it ends in a crash",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_reader_that_hangs_or_crashes_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    start = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); resource.setrlimit(0, (1, 1))\n"
    (tmp_path / "program.py").write_text(start + program)
    monkeypatch.setattr(hdf5, "PROGRAM", tmp_path / "program.py")
    monkeypatch.setattr(hdf5, "SECONDS", 1)
    monkeypatch.setattr(hdf5, "PATIENCE", 2)
    with pytest.raises(FileError, match=rf"keras2_volume\.h5' is damaged: {PROGRAMS[program]}"):
        load_keras(FILES / "keras2_volume.h5")


def external_link(weights: Any, other: Path) -> None:
    weights["stolen"] = h5py.ExternalLink(str(other), "/model_weights")


def soft_link(weights: Any, _: Path) -> None:
    weights["turned"] = h5py.SoftLink("/")


def external_data(weights: Any, other: Path) -> None:
    weights.create_dataset("stolen", (10,), "u1", external=[(str(other), 0, 10)])


def virtual(weights: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (3,))
    weights.create_virtual_dataset("stolen", layout)


def endless(weights: Any, _: Path) -> None:
    weights["again"] = weights


def sparse(weights: Any, _: Path) -> None:
    weights.create_dataset("void", (1 << 30,), "f4", chunks=(1 << 20,))


def words(weights: Any, _: Path) -> None:
    weights["words"] = ["never", "numbers"]


def infinite(weights: Any, _: Path) -> None:
    weights.create_dataset("extra", data=np.array([1.0, np.inf], "f4"))


SLY: dict[Callable[[Any, Path], None], str] = {
    external_link: "stolen is a link to elsewhere",
    soft_link: "turned is a link to elsewhere",
    external_data: "stolen lies in another file",
    virtual: "stolen lies in another file",
    endless: "nested without end",
    sparse: "many times the size of the file",
    words: "not numbers",
    infinite: "extra are not all finite",
}


@pytest.mark.parametrize("change", SLY, ids=lambda change: change.__name__)
def test_what_no_keras_file_holds_is_refused(tmp_path: Path, change: Callable[[Any, Path], None]) -> None:
    path = tmp_path / "sly.h5"
    shutil.copy(FILES / "keras2_volume.h5", path)
    with h5py.File(path, "r+") as file:
        change(file["model_weights"], FILES / "keras2_image.h5")
    with pytest.raises(FileError, match=rf"sly\.h5.*{SLY[change]}"):
        load_keras(path)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=r"keras2_volume\.keras': no space left in"):
        load_keras(FILES / "keras2_volume.keras")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    load_keras(FILES / "keras2_volume.keras")
    with contextlib.suppress(FileError):
        load_keras(FILES / "README.md")
    assert list(tmp_path.iterdir()) == []
