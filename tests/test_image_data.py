"""Image folders, HMT, arrays and fetching: good files, every kind of bad one, and the splits."""

from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import struct
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from heatproof.data import arrays, datasets, fetch, folder, hmt, load
from heatproof.data.archives import building, unpack
from heatproof.data.fetch import heldout
from heatproof.data.hmt import FOLDERS
from heatproof.data.images import LazyImages, check_images, read_image
from heatproof.data.strata import stratified
from heatproof.errors import FileError, InputError, UnknownName, UsageError
from heatproof.preprocessing import squashed
from heatproof.records import Lazy, Samples

RANDOM = np.random.default_rng(0)


def picture(path: Path, *, size: tuple[int, int] = (8, 6), mode: str = "RGB", **options: object) -> Path:
    """A random picture, ``size`` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RANDOM.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(path, **options)
    return path


def tree(root: Path, *, classes: tuple[str, ...] = ("a", "b"), each: int = 5, parts: tuple[str, ...] = ("",)) -> Path:
    """Folders of ``each`` pictures."""
    for part in parts:
        for name in classes:
            for i in range(each):
                picture(root / part / name / f"{part}{i}.png")
    return root


class TestReading:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_lossless_files_give_their_own_pixels(self, tmp_path: Path, suffix: str, mode: str) -> None:
        options = {"lossless": True} if suffix == ".webp" else {}
        path = picture(tmp_path / f"i{suffix}", mode=mode, **options)
        pixels, remarks = read_image(path, squashed(None))
        expected = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels, expected)
        assert pixels.dtype == np.uint8
        assert remarks == ()

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_sixteen_bits_are_kept(self, tmp_path: Path, suffix: str) -> None:
        values = RANDOM.integers(0, 65536, (5, 7), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"deep{suffix}")
        pixels, _ = read_image(tmp_path / f"deep{suffix}", squashed(None, channels=1))
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels[0], values)
        scaled = squashed(None, channels=1).scaled(pixels)
        torch.testing.assert_close(scaled[0], torch.from_numpy(values / 65535).float())

    def test_resizing_takes_means_of_whole_blocks(self, tmp_path: Path) -> None:
        values = np.zeros((4, 4), np.uint16)
        values[:2, :2] = 40_000
        Image.fromarray(values).save(tmp_path / "step.png")
        pixels, _ = read_image(tmp_path / "step.png", squashed((2, 2), channels=3))
        assert pixels.shape == (3, 2, 2)
        # Triangle weights of a halving, 1 3 3 1 inside and 3 3 1 at an edge: 6/7 of the block, 1/7 of its neighbour.
        np.testing.assert_allclose(pixels[0], 40_000 * np.outer([6 / 7, 1 / 7], [6 / 7, 1 / 7]), atol=1)

    def test_size_is_height_and_width(self, tmp_path: Path) -> None:
        pixels, _ = read_image(picture(tmp_path / "i.png", size=(8, 6)), squashed((3, 5)))
        assert pixels.shape == (3, 3, 5)

    def test_palette_is_exact(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "p.png")
        pixels, remarks = read_image(tmp_path / "p.png", squashed(None))
        assert pixels[:, 0].T.tolist() == [[0, 0, 0], [10, 200, 30]]
        assert remarks == ()

    def test_transparency_is_laid_on_white(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[[0, 0, 0, 0], [9, 8, 7, 255]]], np.uint8), "RGBA").save(tmp_path / "t.png")
        pixels, remarks = read_image(tmp_path / "t.png", squashed(None))
        assert pixels[:, 0].T.tolist() == [[255, 255, 255], [9, 8, 7]]
        assert "white" in remarks[0]
        Image.fromarray(np.full((2, 2, 4), 255, np.uint8), "RGBA").save(tmp_path / "opaque.png")
        assert read_image(tmp_path / "opaque.png", squashed(None))[1] == ()

    def test_cmyk_is_converted_with_a_remark(self, tmp_path: Path) -> None:
        Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "c.tif")
        pixels, remarks = read_image(tmp_path / "c.tif", squashed(None))
        assert pixels[:, 0, 0].tolist() == [255, 0, 0]
        assert "CMYK" in remarks[0]

    @pytest.mark.parametrize("suffix", [".webp", ".tif", ".png", ".gif"])
    def test_first_frame_of_an_animation(self, tmp_path: Path, suffix: str) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 250, 0))]
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        pixels, remarks = read_image(tmp_path / f"a{suffix}", squashed(None))
        assert pixels[:, 0, 0].tolist() == [250, 0, 0]
        assert "frames" in remarks[0]

    def test_turned_upright(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "t.png", exif=exif)
        pixels, _ = read_image(tmp_path / "t.png", squashed(None, channels=1))
        np.testing.assert_array_equal(pixels[0], np.rot90(np.arange(6).reshape(2, 3), -1))

    def test_normalising(self, tmp_path: Path) -> None:
        pixels = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1)
        assert squashed(None, scaling="unit").scaled(pixels).flatten().tolist() == pytest.approx([0, 0.2, 1])
        assert squashed(None, scaling="signed").scaled(pixels).flatten().tolist() == pytest.approx([-1, -0.6, 1])
        imagenet = [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]
        assert squashed(None, scaling="imagenet").scaled(pixels).flatten().tolist() == pytest.approx(imagenet)


def spoil(path: Path, kind: str) -> None:
    """A bad file of the given kind."""
    whole = picture(path.with_name("whole.jpg"), size=(64, 64)).read_bytes()
    path.with_name("whole.jpg").unlink()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "header only":
        path.write_bytes(whole[:30])
    elif kind == "bomb":
        chunks = (b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"0"))
        body = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    elif kind == "text bomb":
        body = Image.new("RGB", (4, 4))
        note = PngInfo()
        note.add_text("comment", "x" * (80 << 20), zip=True)
        body.save(path, format="PNG", pnginfo=note)
    elif kind == "float":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(path, format="TIFF")


BAD = {
    "empty": "empty",
    "text": "not an image",
    "truncated": "truncated",
    "header only": "(not an image|truncated)",
    "bomb": "pixels",
    "text bomb": "too large",
    "float": "no fixed range",
}


class TestBadFiles:
    @pytest.mark.parametrize(("kind", "reason"), BAD.items())
    def test_are_named(self, tmp_path: Path, kind: str, reason: str) -> None:
        spoil(tmp_path / "bad.jpg", kind)
        with pytest.raises(FileError, match=rf"bad\.jpg: .*{reason}") as error:
            read_image(tmp_path / "bad.jpg")
        assert "\n" not in str(error.value)

    def test_what_may_not_be_read_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def locked(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Image, "open", locked)
        with pytest.raises(FileError, match=r"a\.png: permission to read it is denied"):
            read_image(picture(tmp_path / "a.png"))

    def test_are_left_out_and_listed(self, tmp_path: Path) -> None:
        tree(tmp_path)
        for kind in BAD:
            spoil(tmp_path / "a" / f"{kind}.jpg", kind)
        splits = folder(tmp_path, size=4)
        assert len(splits.train) + len(splits.test) == 10
        bad = splits.train.about["bad"]
        assert set(bad) == {str(Path("a", f"{kind}.jpg")) for kind in BAD}
        assert bad[str(Path("a", "empty.jpg"))].startswith("the image file is empty")

    def test_are_errors_when_strict(self, tmp_path: Path) -> None:
        spoil(tree(tmp_path) / "b" / "bad.jpg", "truncated")
        with pytest.raises(FileError, match=r"bad\.jpg"):
            folder(tmp_path, size=4, strict=True)

    def test_mixed_sizes(self, tmp_path: Path) -> None:
        picture(tree(tmp_path) / "b" / "odd.png", size=(9, 9))
        assert (
            "9 x 9 pixels, the first is 6 x 8"
            in folder(tmp_path, size="file").train.about["bad"][str(Path("b", "odd.png"))]
        )
        with pytest.raises(FileError, match=r"odd\.png: is 9 x 9 pixels, the first is 6 x 8; set the option size"):
            folder(tmp_path, size="file", strict=True)
        assert "bad" not in folder(tmp_path, size=5, strict=True).train.about

    def test_converted_ones_are_kept_and_listed(self, tmp_path: Path) -> None:
        Image.new("CMYK", (8, 6)).save(tree(tmp_path) / "a" / "c.tif")
        about = folder(tmp_path, size=4).train.about
        assert about["converted"] == {str(Path("a", "c.tif")): "CMYK converted to RGB without a colour profile"}
        assert "bad" not in about

    def test_a_file_that_goes_away_later_is_named(self, tmp_path: Path) -> None:
        checked = check_images([picture(tmp_path / "gone.png")], squashed((4, 4)))
        images = pickle.loads(pickle.dumps(checked.images))  # noqa: S301
        (tmp_path / "gone.png").unlink()
        torch.testing.assert_close(checked.images[0].shape, torch.Size([3, 4, 4]))
        with pytest.raises(FileError, match=r"gone\.png: no such"):
            images[0]

    def test_a_file_that_changes_size_later_is_named(self, tmp_path: Path) -> None:
        images = check_images([picture(tmp_path / "i.png")], squashed(None)).images
        images._kept.clear()
        picture(tmp_path / "i.png", size=(3, 3))
        with pytest.raises(FileError, match=r"i\.png: is 3 x 3 pixels, expected 6 x 8"):
            images[0]


class TestFolder:
    def test_train_and_test_as_given(self, tmp_path: Path) -> None:
        splits = folder(tree(tmp_path, parts=("train", "test"), each=3), size=4)
        assert splits.classes == ("a", "b")
        assert splits.train.ids == (
            "a/train0.png",
            "a/train1.png",
            "a/train2.png",
            *(f"b/train{i}.png" for i in range(3)),
        )
        assert splits.test.y.tolist() == [0, 0, 0, 1, 1, 1]
        assert splits.train.about["preprocessing"]["resize"] == [4, 4]

    def test_single_tree_is_split_class_by_class(self, tmp_path: Path) -> None:
        splits = folder(tree(tmp_path, each=10), size=4, test=0.3)
        assert splits.test.y.bincount().tolist() == [3, 3]
        assert not set(splits.train.ids) & set(splits.test.ids)
        again, other = folder(tmp_path, size=4, test=0.3), folder(tmp_path, size=4, test=0.3, seed=1)
        assert again.test.ids == splits.test.ids
        assert other.test.ids != splits.test.ids
        torch.testing.assert_close(again.test.x[:], splits.test.x[:], rtol=0, atol=0)

    def test_hidden_and_foreign_files_are_passed_over(self, tmp_path: Path) -> None:
        root = tree(tmp_path)
        (root / ".hidden").mkdir()
        (root / "__MACOSX").mkdir()
        (root / "a" / "notes.txt").write_text("x")
        (root / "a" / "._0.png").write_bytes(b"resource fork")
        splits = folder(root, size=4, strict=True)
        assert len(splits.train) + len(splits.test) == 10

    def test_a_broken_link_is_listed(self, tmp_path: Path) -> None:
        root = tree(tmp_path)
        (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
        assert folder(root, size=4).train.about["bad"] == {"a/gone.png": "no such image file"}

    def test_grey(self, tmp_path: Path) -> None:
        assert folder(tree(tmp_path), size=4, channels=1).train.x.shape == (8, 1, 4, 4)

    @pytest.mark.parametrize(
        ("spoiled", "message"),
        [
            ("missing", "no such folder"),
            ("file", "is a file"),
            ("one class", "only one class folder, a"),
            ("no class", "no class folders"),
            ("class lacks in test", "test: has no folder for class b"),
            ("no test", "has train/ but no test/"),
            ("class without images", "b: no images"),
            ("class of one image", "class b has one readable image; expected at least two"),
            ("class of bad images", r"b: 1 images, none readable; the first: .*empty"),
        ],
    )
    def test_impossible_trees_are_refused(self, tmp_path: Path, spoiled: str, message: str) -> None:
        root = tmp_path / "root"
        if spoiled == "file":
            root.write_text("")
        elif spoiled == "one class":
            tree(root, classes=("a",))
        elif spoiled == "no class":
            root.mkdir()
        elif spoiled == "class lacks in test":
            tree(root, parts=("train", "test"))
            for file in (root / "test" / "b").iterdir():
                file.unlink()
            (root / "test" / "b").rmdir()
        elif spoiled == "no test":
            tree(root, parts=("train",))
        elif spoiled.startswith("class"):
            tree(root, classes=("a",))
            (root / "b").mkdir()
            if "one image" in spoiled:
                picture(root / "b" / "0.png")
            elif "bad" in spoiled:
                (root / "b" / "0.png").write_bytes(b"")
        with pytest.raises(FileError, match=message):
            folder(root, size=4)

    @pytest.mark.parametrize(
        "options",
        [
            {"size": 0},
            {"size": (3, 4, 5)},
            {"channels": 2},
            {"test": 0.0},
            {"channels": 1, "preprocessing": "imagenet"},
        ],
    )
    def test_impossible_options_are_refused(self, tmp_path: Path, options: dict[str, object]) -> None:
        with pytest.raises(UsageError):
            folder(tree(tmp_path), **options)  # type: ignore[arg-type]

    @given(
        counts=st.lists(st.integers(1, 40), min_size=1, max_size=4), share=st.floats(0.05, 0.9), seed=st.integers(0, 99)
    )
    def test_stratified_keeps_the_share_of_each_class(self, counts: list[int], share: float, seed: int) -> None:
        y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        chosen = stratified(y, lambda n: int(share * n), seed)
        assert y[chosen].bincount(minlength=len(counts)).tolist() == [int(share * n) for n in counts]

    def test_by_name(self, tmp_path: Path) -> None:
        assert load("folder:size=4", path=tree(tmp_path)).train.x.shape == (8, 3, 4, 4)
        with pytest.raises(UsageError, match=r"^--data folder needs --path, the folder with one subfolder per class$"):
            load("folder:size=4")
        with pytest.raises(UsageError, match=r"^--data mnist1d is generated and takes no --path; got "):
            load("mnist1d", path=tmp_path)
        assert {"folder", "hmt", "arrays", "synthetic-1d", "synthetic-2d", "synthetic-3d"} <= set(datasets)


class TestLazyImages:
    @pytest.fixture
    def images(self, tmp_path: Path) -> LazyImages:
        paths = [picture(tmp_path / f"{i}.png") for i in range(6)]
        return check_images(paths, squashed((4, 5))).images

    def test_slices_like_a_tensor(self, images: LazyImages) -> None:
        whole = images[:]
        assert isinstance(images, Lazy)
        assert images.shape == whole.shape == (6, 3, 4, 5)
        assert images.dtype == whole.dtype == torch.float32
        assert images.ndim == whole.ndim
        rows = torch.tensor([4, 0, 0])
        for index in (2, -1, slice(1, 5, 2), slice(4, 99), slice(3, 3), rows, rows > 0, torch.tensor(3)):
            expected = (
                whole[:3][index] if isinstance(index, torch.Tensor) and index.dtype == torch.bool else whole[index]
            )
            torch.testing.assert_close(images[index], expected, rtol=0, atol=0)
        torch.testing.assert_close(images[[1, 2]], whole[1:3], rtol=0, atol=0)
        with pytest.raises(IndexError):
            images[6]

    def test_views_read_nothing_and_agree(self, images: LazyImages) -> None:
        view = images.take(torch.tensor([3, 1])).take(slice(1, 2))
        assert view.paths == (images.paths[1],)
        torch.testing.assert_close(view[:], images[1:2], rtol=0, atol=0)

    def test_samples_take_keeps_them_lazy(self, images: LazyImages) -> None:
        samples = Samples(x=images, y=torch.tensor([0, 1] * 3))
        taken = samples.take([5, 0])
        assert isinstance(taken.x, LazyImages)
        torch.testing.assert_close(taken.x[:], images[[5, 0]], rtol=0, atol=0)

    def test_memory_is_bounded(self, tmp_path: Path) -> None:
        paths = tuple(picture(tmp_path / f"{i}.png") for i in range(5))
        images = LazyImages(paths, squashed((4, 5)), (4, 5), budget=2 * 60 + 59)
        unkept = LazyImages(paths, squashed((4, 5)), (4, 5), budget=0)
        for _ in range(2):
            torch.testing.assert_close(images[:], unkept[:], rtol=0, atol=0)
        assert len(images._kept) == 2
        assert not unkept._kept


class TestHmt:
    def test_eight_classes_in_order(self, tmp_path: Path) -> None:
        splits = hmt(tree(tmp_path, classes=tuple(FOLDERS), each=4), size=6, test=1)
        assert splits.classes == ("TUMOR", "STROMA", "COMPLEX", "LYMPHO", "DEBRIS", "MUCOSA", "ADIPOSE", "EMPTY")
        assert splits.test.y.tolist() == list(range(8))
        assert len(splits.train) == 24
        assert "CC BY" in splits.train.about["licence"]
        assert "Kather" in splits.train.about["citation"]

    def test_tiles_the_shipped_network_never_saw_are_for_testing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = tree(tmp_path, classes=tuple(FOLDERS), each=4)
        for i, name in enumerate(FOLDERS):
            (root / name / "2.png").rename(root / name / f"held.tif_Row_{i}.png")
        listed = tuple(f"held.tif_Row_{i}.tif" for i in range(8))
        monkeypatch.setattr(sys.modules["heatproof.data.hmt"], "heldout", lambda: listed)
        splits = hmt(root, size=4)
        assert [Path(name).stem for name in splits.test.ids] == [Path(name).stem for name in listed]
        assert "held out from the shipped network" in splits.test.about["split"]
        assert len(hmt(root, size=4, test=1).test) == 8
        (root / "01_TUMOR" / "held.tif_Row_0.png").unlink()
        assert "62 a class" in hmt(root, size=4).test.about["split"]

    def test_held_out_names(self, shared: Path) -> None:
        names = heldout()
        assert len(set(names)) == len(names) == 496
        folders = shared / "data" / "hmt"
        if not folders.is_dir():
            pytest.skip("needs the HMT tiles in the shared data folder")
        trained = {path.stem for path in (folders / "train").rglob("*.jpg")}
        tested = {path.stem for path in (folders / "test").rglob("*.webp")}
        assert tested == {Path(name).stem for name in names}
        assert len(trained) == 4000
        assert not trained & tested

    def test_foreign_folders_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match=r"got folders a, b; expected 01_TUMOR"):
            hmt(tree(tmp_path))

    def test_absent_tiles_say_how_to_get_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEATPROOF_DATA", str(tmp_path))
        with pytest.raises(FileError, match="heatproof data fetch hmt"):
            hmt()

    def test_real_tiles(self, shared: Path) -> None:
        paths = sorted((shared / "data" / "hmt" / "test" / "01_TUMOR").glob("*.webp"))[:3]
        if not paths:
            pytest.skip("needs the HMT tiles in the shared data folder")
        checked = check_images(paths, squashed(None), strict=True)
        assert checked.images.shape == (3, 3, 150, 150)
        assert not checked.remarks


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address on loopback where its files are served."""
    root = tmp_path_factory.mktemp("served")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield root, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.fixture
def archive(server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Address and digest of a small archive built like the real one; the cache folder is a temporary one."""
    monkeypatch.setenv("HEATPROOF_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root, address = server
    tiles = tree(tmp_path / "made", classes=tuple(FOLDERS), each=4)
    with zipfile.ZipFile(root / "tiles.zip", "w") as file:
        for path in sorted(tiles.rglob("*.png")):
            file.write(path, Path("Kather_texture_2016_image_tiles_5000", path.relative_to(tiles)))
        file.writestr("__MACOSX/junk", b"x")
    digest = hashlib.sha384((root / "tiles.zip").read_bytes()).hexdigest()
    return f"{address}/tiles.zip", f"sha384:{digest}"


class TestFetch:
    def test_fetched_unpacked_and_split(self, archive: tuple[str, str], tmp_path: Path) -> None:
        url, digest = archive
        place = fetch("hmt", tmp_path / "to", url=url, digest=digest, test=1)
        assert sorted(p.name for p in place.iterdir()) == ["test", "train"]
        splits = hmt(place, size=4)
        assert (len(splits.train), len(splits.test)) == (24, 8)
        again = fetch("hmt", tmp_path / "other", url=url, digest=digest, test=1)
        assert hmt(again, size=4).test.ids == splits.test.ids

    def test_default_place_is_found_by_hmt(self, archive: tuple[str, str]) -> None:
        url, digest = archive
        fetch("hmt", url=url, digest=digest, test=2)
        assert len(hmt(size=4).test) == 16

    def test_what_is_there_is_kept(self, archive: tuple[str, str], tmp_path: Path) -> None:
        url, digest = archive
        place = fetch("hmt", tmp_path / "to", url=url, digest=digest, test=1)
        assert fetch("hmt", tmp_path / "to", url="http://127.0.0.1:9/nothing", digest=digest) == place

    def test_test_tiles_by_name(self, archive: tuple[str, str], tmp_path: Path) -> None:
        url, digest = archive
        place = fetch("hmt", tmp_path / "to", url=url, digest=digest, test=["2.webp"])
        assert {p.name for p in (place / "test").rglob("*.png")} == {"2.png"}
        with pytest.raises(UsageError, match="first 'absent'"):
            fetch("hmt", tmp_path / "no", url=url, digest=digest, test=["2.png", "absent.png"])
        with pytest.raises(UsageError, match="496 names are not in the archive"):
            fetch("hmt", tmp_path / "no", url=url, digest=digest)
        with pytest.raises(UsageError, match="has 4"):
            fetch("hmt", tmp_path / "no", url=url, digest=digest, test=4)
        assert not (tmp_path / "no").exists()

    def test_wrong_checksum(self, archive: tuple[str, str], tmp_path: Path) -> None:
        with pytest.raises(FileError, match=r"tiles\.zip: the checksum differs"):
            fetch("hmt", tmp_path / "to", url=archive[0], digest="sha384:" + "0" * 96)
        assert not (tmp_path / "to").exists()
        assert not list((tmp_path / "home" / "archives").iterdir())

    @pytest.mark.parametrize("url", ["/absent.zip", None])
    def test_address_that_fails(self, archive: tuple[str, str], tmp_path: Path, url: str | None) -> None:
        address = archive[0].replace("/tiles.zip", url) if url else "http://127.0.0.1:9/tiles.zip"
        with pytest.raises(FileError, match="cannot be fetched"):
            fetch("hmt", tmp_path / "to", url=address, digest=archive[1])

    def test_foreign_folder_and_name(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("x")
        with pytest.raises(FileError, match="holds other files"):
            fetch("hmt", tmp_path)
        with pytest.raises(UnknownName, match="did you mean 'hmt'"):
            fetch("hmtt")


class TestUnpacking:
    def pack(self, path: Path, *names: str, link: bool = False) -> Path:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("good.txt", "x")
            for name in names:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (0o120777 if link else 0o100644) << 16
                file.writestr(entry, "../../target")
        return path

    @pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/etc/out.txt", "..\\out.txt", "C:\\out.txt"])
    def test_nothing_leaves_the_folder(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(FileError, match="outside the folder; nothing was unpacked"):
            unpack(self.pack(tmp_path / "bad.zip", name), tmp_path / "to" / "tree")
        assert list((tmp_path / "to").iterdir()) == []

    def test_links_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="is a link"):
            unpack(self.pack(tmp_path / "bad.zip", "link", link=True), tmp_path / "tree")
        assert not (tmp_path / "tree").exists()

    def test_damaged_archives_leave_nothing(self, tmp_path: Path) -> None:
        path = self.pack(tmp_path / "bad.zip", "a.txt")
        whole = path.read_bytes()
        for kind in (whole[:-30], whole.replace(b"../../target", b"../../TARGET"), b"", b"no zip"):
            path.write_bytes(kind)
            with pytest.raises(FileError, match=r"bad\.zip: damaged"):
                unpack(path, tmp_path / "tree")
            assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip"]

    def test_an_interrupt_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        path = self.pack(tmp_path / "good.zip", "a.txt")
        monkeypatch.setattr(zipfile.ZipFile, "extract", stop)
        with pytest.raises(KeyboardInterrupt):
            unpack(path, tmp_path / "tree")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["good.zip"]

    def test_too_small_a_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from shutil import disk_usage

        path = self.pack(tmp_path / "good.zip", "a.txt")
        monkeypatch.setattr("shutil.disk_usage", lambda place: disk_usage(place)._replace(free=3))
        with pytest.raises(FileError, match=r"good\.zip: no space to unpack it: it needs"):
            unpack(path, tmp_path / "tree")
        monkeypatch.undo()

        def full(*_: object) -> None:
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(zipfile.ZipFile, "extract", full)
        with pytest.raises(FileError, match="no space left"):
            unpack(path, tmp_path / "tree")
        assert not (tmp_path / "tree").exists()

    def test_building_takes_over_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        with building(tmp_path / "tree") as temporary:
            (temporary / "a").write_text("x")
        assert [p.name for p in (tmp_path / "tree").iterdir()] == ["a"]


class TestArrays:
    x = RANDOM.normal(size=(20, 1, 7)).astype(np.float32)
    y = np.arange(20) % 2

    def test_mapping_with_mask_and_words(self) -> None:
        mask = self.x[:, 0] > 0
        splits = arrays({"x": self.x, "y": np.array(["cat", "ant"])[self.y], "mask": mask}, test=0.3)
        assert splits.classes == ("ant", "cat")
        assert (len(splits.train), len(splits.test)) == (14, 6)
        for part in splits:
            assert isinstance(part.x, torch.Tensor)
            torch.testing.assert_close(part.mask, part.x[:, 0] > 0)

    def test_npz_with_its_own_split(self, tmp_path: Path) -> None:
        volume = RANDOM.normal(size=(4, 5, 6, 7))
        np.savez(
            tmp_path / "v.npz",
            x_train=volume,
            y_train=[0, 1, 2, 1],
            x_test=volume[:2],
            y_test=[1, 0],
            classes=["p", "q", "r"],
        )
        splits = load("arrays:channels=absent", path=tmp_path / "v.npz")
        assert splits.classes == ("p", "q", "r")
        assert splits.train.x.shape == (4, 1, 5, 6, 7)
        torch.testing.assert_close(splits.test.x[:], torch.from_numpy(volume[:2, None]).float())

    def test_npy_with_labels_beside_it(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", RANDOM.normal(size=(20, 8, 9, 3)))
        np.save(tmp_path / "y.npy", self.y)
        assert arrays(tmp_path / "x.npy", y="y.npy", channels="last").train.x.shape == (16, 3, 8, 9)
        with pytest.raises(UsageError, match=r"arrays:y=labels\.npy"):
            arrays(tmp_path / "x.npy")
        with pytest.raises(FileError, match=r"z\.npy: no such file"):
            arrays(tmp_path / "x.npy", y="z.npy")

    @pytest.mark.parametrize(
        ("text", "labels"),
        [
            ("1,2,a\n3,4,b\n5,6,a\n7,8,b\n", ""),
            ("Class,u,v\na,1,2\nb,3,4\na,5,6\nb,7,8\n", ""),
            ("u,k,v\n1,a,2\n3,b,4\n5,a,6\n7,b,8", "k"),
        ],
    )
    def test_csv(self, tmp_path: Path, text: str, labels: str) -> None:
        (tmp_path / "s.csv").write_text(text)
        splits = load(f"arrays:test=0.5{',y=' + labels if labels else ''}", path=tmp_path / "s.csv")
        assert splits.classes == ("a", "b")
        rows = sorted(
            (*x.flatten().tolist(), int(y)) for part in splits for x, y in zip(part.x[:], part.y, strict=True)
        )
        assert rows == [(1, 2, 0), (3, 4, 1), (5, 6, 0), (7, 8, 1)]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", "1,2,a\n1,a\n", "line 2 has another number of cells"),
            ("a.csv", "u,v,y\n1,x,a\n", "line 2 has 'x' where a finite number"),
            ("a.csv", "u,v,y\n1,nan,a\n", "line 2 has 'nan'"),
            ("a.csv", "", "empty"),
            ("a.csv", "1\n2\n", "one column"),
            ("a.npz", "text", "Python objects or is no NumPy file"),
            ("a.txt", "text", r"got \.txt"),
        ],
    )
    def test_bad_files(self, tmp_path: Path, name: str, content: str, message: str) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(FileError, match=message):
            arrays(tmp_path / name)

    def test_pickled_objects_are_never_loaded(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "o.npz", x=np.array([{}, {}], dtype=object), y=[0, 1])
        with pytest.raises(FileError, match="Python objects"):
            arrays(tmp_path / "o.npz")

    def test_truncated(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "t.npz", x=self.x, y=self.y)
        whole = (tmp_path / "t.npz").read_bytes()
        (tmp_path / "t.npz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(FileError, match="damaged or truncated"):
            arrays(tmp_path / "t.npz")

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"y": np.zeros(20)}, "got 1 class"),
            ({"y": np.linspace(0, 1, 20), "task": "classes"}, "no whole numbers"),
            ({"y": np.arange(20) == 0}, "has one sample"),
            ({"y": np.zeros((20, 2, 2))}, "one number or word a sample"),
            ({"y": np.full((20, 2), 3)}, "labels .N, L. are 0 or 1"),
            (
                {"y": np.array(["a", "b"] * 10), "task": "regression"},
                "expected one number a sample for task=regression",
            ),
            ({"y": np.arange(19) % 2}, "19 labels"),
            ({"x": np.full((20, 1, 7), np.nan)}, "first in sample 0"),
            ({"x": np.zeros((20, 1, 2, 2, 2, 2))}, "one to three position axes"),
            ({"x": np.zeros(20)}, "one to three position axes"),
            ({"mask": np.ones((20, 6))}, "mask"),
            ({"classes": ["only"]}, "for 1 classes"),
        ],
    )
    def test_arrays_that_do_not_fit(self, changed: dict[str, object], message: str) -> None:
        with pytest.raises(InputError, match=message):
            arrays(
                {"x": self.x, "y": self.y, **{k: v for k, v in changed.items() if k != "task"}},
                task=changed.get("task"),
            )

    def test_missing_arrays(self) -> None:
        with pytest.raises(InputError, match=r"^the mapping has only the array 'x'; expected 'x' and 'y'$"):
            arrays({"x": self.x})
        with pytest.raises(InputError, match=r"^the mapping has x_train but no x_test; expected x_train, y_train, "):
            arrays({"x_train": self.x, "y_train": self.y})
        with pytest.raises(InputError, match=r"^the mapping has no arrays; expected 'x' and 'y'$"):
            arrays({})

    def test_arrays_of_other_names(self, tmp_path: Path) -> None:
        truth = self.x[:, 0] > 0
        np.savez(tmp_path / "scans.npz", data=self.x, labels=self.y, truth=truth)
        with pytest.raises(InputError) as caught:
            load("arrays", path=tmp_path / "scans.npz")
        assert str(caught.value) == (
            "scans.npz has arrays 'data', 'labels' and 'truth'; expected 'x' and 'y' "
            "(or name them with --data arrays:x=data,y=labels)"
        )
        splits = load("arrays:x=data,y=labels,mask=truth", path=tmp_path / "scans.npz")
        assert splits.train.x.shape == (16, 1, 7)
        for part in splits:
            torch.testing.assert_close(part.mask, part.x[:, 0] > 0)
        with pytest.raises(InputError, match=r"expected 'data', 'labels' and 'other'$"):
            load("arrays:x=data,y=labels,mask=other", path=tmp_path / "scans.npz")

    def test_arrays_of_other_names_with_a_split(self, tmp_path: Path) -> None:
        parts = {
            f"{key}_{split}": value for split in ("train", "test") for key, value in (("u", self.x), ("v", self.y))
        }
        np.savez(tmp_path / "s.npz", **parts)
        splits = load("arrays:x=u,y=v", path=tmp_path / "s.npz")
        assert (len(splits.train), len(splits.test)) == (20, 20)

    def test_names_of_arrays_are_for_archives(self, tmp_path: Path) -> None:
        (tmp_path / "s.csv").write_text("1,2,a\n3,4,b\n")
        with pytest.raises(UsageError, match=r"name arrays of an \.npz file"):
            arrays(tmp_path / "s.csv", x="data")
