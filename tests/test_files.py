"""Files appear whole or not at all; digests change with what they are of, and with nothing else."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heatproof.data.images import LazyImages
from heatproof.errors import FileError
from heatproof.files import writing
from heatproof.fingerprint import file_digest, model_digest, samples_digest, values_digest
from heatproof.preprocessing import squashed
from heatproof.records import Samples

from .toys import Plain, inputs, ready


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.json"
    with writing(path) as part:
        assert part.parent == path.parent
        assert part.suffix == path.suffix
        part.write_text("{}", encoding="utf-8")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["page.json"]
    assert path.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "page.json"
    path.write_text("old", encoding="utf-8")

    def write() -> None:
        with writing(path) as part:
            part.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["page.json"]


def test_a_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with writing(tmp_path / "file") as part:
        part.unlink()
        part.touch(mode=0o600)
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left to write"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot write .*: Permission denied"),
    ],
)
def test_what_the_disk_refuses_is_one_line(tmp_path: Path, error: OSError, words: str) -> None:
    with pytest.raises(FileError, match=words) as caught, writing(tmp_path / "file"):
        raise error
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == "sha256:" + hashlib.sha256(b"abc").hexdigest()


def test_a_model_digest_depends_on_class_and_weights() -> None:
    model = ready(Plain(1))
    assert model_digest(model) == model_digest(ready(Plain(1)))
    assert model_digest(ready(Plain(1), seed=1)) != model_digest(model)
    assert model_digest(torch.nn.Sequential(model)) != model_digest(model)
    model.train()
    assert model_digest(model) == model_digest(ready(Plain(1)))


def test_a_digest_of_values_sees_every_input_and_every_file(tmp_path: Path) -> None:
    x = inputs(1, 300)
    digest = values_digest(Samples(x, torch.arange(300) % 2))
    x[1, 0, 0] += 1
    assert values_digest(Samples(x, torch.arange(300) % 2)) != digest
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        path.write_bytes(b"a")
    lazy = LazyImages(tuple(paths), squashed((8, 8)), (8, 8))
    digest = values_digest(Samples(lazy, [0, 1, 1]))
    assert values_digest(Samples(lazy, [0, 1, 1])) == digest
    paths[1].write_bytes(b"bb")
    assert values_digest(Samples(lazy, [0, 1, 1])) != digest


def test_a_samples_digest_depends_on_everything_that_decides_numbers() -> None:
    mask = torch.zeros(4, 24, dtype=torch.bool)
    data = Samples(inputs(1, 4), torch.arange(4), mask, tuple("abcd"), "toy", tuple("uvwx"))
    others = (
        replace(data, x=data.x[:] + 1),
        replace(data, y=data.y.flip(0)),
        replace(data, mask=~mask),
        replace(data, mask=None),
        replace(data, classes=tuple("abce")),
        replace(data, ids=tuple("uvwy")),
        data.take([0, 1, 2]),
    )
    digests = [samples_digest(other) for other in (data, *others)]
    assert len(set(digests)) == len(digests)
    assert samples_digest(replace(data, name="other", about={"source": "x"})) == digests[0]
