"""Maps written chunk by chunk are the maps, in any order of methods and for any size of chunk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from heatproof.errors import FileError
from heatproof.pipeline.mapfile import map_writer, read_maps


@given(size=st.lists(st.integers(1, 4), min_size=1, max_size=3), count=st.integers(1, 9), chunk=st.integers(1, 5))
def test_chunks_make_the_whole(
    tmp_path_factory: pytest.TempPathFactory, size: list[int], count: int, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("maps") / "maps.safetensors"
    maps = {name: torch.randn(count, *size) for name in ("grad-cam", "a:b=1", "random")}
    with map_writer(path, count) as file:
        for start in range(0, count, chunk):
            file.write({name: read[start : start + chunk] for name, read in maps.items()})
    for read in (read_maps(path), load_file(path)):
        assert set(read) == set(maps)
        assert all(torch.equal(read[name], maps[name]) for name in maps)


def test_strided_and_half_precision_maps_are_written_as_float32(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 3, 2)
    with map_writer(tmp_path / "maps", 4) as file:
        file.write({"a": whole.transpose(1, 2), "b": whole.half()})
    read = read_maps(tmp_path / "maps")
    assert torch.equal(read["a"], whole.transpose(1, 2))
    assert read["b"].dtype == torch.float32


def test_nothing_is_left_where_writing_stops(tmp_path: Path) -> None:
    def stopped() -> None:
        with map_writer(tmp_path / "maps", 4) as file:
            file.write({"a": torch.zeros(2, 3)})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "maps"
    with map_writer(path, 4) as file:
        file.write({"a": torch.zeros(4, 3)})
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(FileError, match="truncated"):
        read_maps(path)
    with pytest.raises(FileError, match="missing"):
        read_maps(tmp_path / "none")
