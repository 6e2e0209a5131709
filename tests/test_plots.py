"""Figures: what they show, that nothing is cut off, and that their SVG is small, themed and free of clashes."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heatproof import plots, stats
from heatproof.errors import FileError, InputError
from heatproof.performance import measure
from heatproof.plots.colours import heat
from heatproof.plots.display import note, scaled, strongest
from heatproof.plots.files import _smaller
from heatproof.plots.names import fit, fold, height, width
from heatproof.plots.panel import picture, runs
from heatproof.plots.tables import crowded, shade
from heatproof.records import Estimate

METHODS = ["grad-cam", "integrated-gradients:steps=20", "random", "edge"]
CONTROLS = ["random", "edge"]
LONG = "a-method-whose-name-is-long:with=3,options=20,of=mean"
SIGNAL, LEADS, IMAGE, VOLUME = (1, 40), (3, 40), (3, 30, 34), (1, 9, 10, 11)


@functools.cache
def _performance(k: int = 4, n: int = 120) -> object:
    generator = np.random.default_rng(0)
    y = generator.integers(0, k, n)
    p = generator.dirichlet(np.ones(k), n) + 1.5 * np.eye(k)[y] * generator.random((n, 1))
    names = ["cost $5 & <more>", "colorectal adenocarcinoma epithelium", *map(str, range(k - 2))]
    return measure(p / p.sum(axis=1, keepdims=True), y, names, resamples=100)


def _scores() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(60, 4)) + np.array([1.5, 1.4, 0.0, 0.3])


def _inputs(shape: tuple[int, ...], n: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    heat = generator.normal(size=(n, *shape[1:]))
    mask = np.zeros(heat.shape, dtype=bool)
    mask[(slice(None), *(slice(n // 4, n // 2) for n in shape[1:]))] = True
    return generator.random((n, *shape)), heat, mask


def _history(n: int = 12, val: float = 1.0) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(
            epoch=i + 1,
            train_loss=2 / (i + 1),
            val_loss=val * 2.2 / (i + 1),
            train_accuracy=0.5,
            val_accuracy=val * 0.4,
        )
        for i in range(n)
    ]


def _gallery(shape: tuple[int, ...]) -> Figure:
    x, heat, mask = _inputs(shape)
    labels = ["7 (0.98)", "lymphocytes → mucus (0.45)", "1"]
    return plots.gallery(x, dict.fromkeys(METHODS, heat), labels=labels, mask=mask)


def _single(shape: tuple[int, ...], drawing: str = "overlay") -> Figure:
    x, heat, mask = (part[0] for part in _inputs(shape))
    return plots.show(x, {"grad-cam": heat}, mask=mask, labels="7 (0.98)", drawing=drawing)  # type: ignore[arg-type]


def _several(shape: tuple[int, ...]) -> Figure:
    x, heat, mask = _inputs(shape, 2)
    labels = ["7 (0.98)", "lymphocytes → mucus (0.45)"]
    return plots.show(x, dict.fromkeys([*METHODS[:3], LONG], heat), labels=labels, mask=mask)


def _panels(shape: tuple[int, ...]) -> Figure:
    x, heat, _ = _inputs(shape)
    return plots.panels(
        x, ["says 7 (0.98)", "says 3 (0.61), is 8", "says 1"], maps=heat, incorrect=[False, True, False]
    )


def _questions(names: Sequence[str]) -> Figure:
    marks: list[plots.Mark] = ["named", "eligible", "faint"]
    rows = [plots.Answer(Estimate(0.5, 0.4, 0.6, 9), marks[i % 3], (0.1, float("nan"))) for i in range(len(names))]
    return plots.questions(names, {"where": rows, "how much": rows}, references={"edge": (0.2, float("nan"))})


def _critical_difference() -> Figure:
    scores = _scores()
    mean = stats.ranks(scores).mean(axis=0)
    sets = stats.groups(stats.pairwise(scores).p, mean)
    return plots.critical_difference(METHODS, mean, sets, controls=CONTROLS, reach=0.7)


FIGURES: dict[str, Callable[[], Figure]] = {
    "history": lambda: plots.history(_history(), best=9),
    "history without validation": lambda: plots.history(_history(1, float("nan"))),
    "roc": lambda: plots.roc(_performance()),
    "roc of many classes": lambda: plots.roc(_performance(20)),
    "confusion": lambda: plots.confusion(_performance()),
    "confusion of many classes": lambda: plots.confusion(_performance(35)),
    "per class": lambda: plots.per_class(_performance()),
    "per class of many": lambda: plots.per_class(_performance(45, 200), "auc"),
    "reliability": lambda: plots.reliability(_performance()),
    "examples": lambda: plots.examples(_performance(), _inputs(SIGNAL, 120)[0]),
    "signal": lambda: _single(SIGNAL),
    "signal of three channels": lambda: _single(LEADS),
    "contour of a signal": lambda: _single(LEADS, "contour"),
    "map of a signal": lambda: _single(LEADS, "map"),
    "image": lambda: _single(IMAGE),
    "map of an image": lambda: _single(IMAGE, "map"),
    "contour": lambda: _single(IMAGE, "contour"),
    "volume": lambda: _single(VOLUME),
    "contour of a volume": lambda: _single(VOLUME, "contour"),
    "batch of signals": lambda: _several(LEADS),
    "batch of images": lambda: _several(IMAGE),
    "batch of volumes": lambda: _several(VOLUME),
    "gallery of signals": lambda: _gallery(SIGNAL),
    "gallery of images": lambda: _gallery(IMAGE),
    "gallery of volumes": lambda: _gallery(VOLUME),
    "panels of signals": lambda: _panels(SIGNAL),
    "panels of images": lambda: _panels(IMAGE),
    "ranking": lambda: plots.ranking(stats.rank(_scores(), METHODS), controls=CONTROLS),
    "questions": lambda: _questions(METHODS),
    "ranking by score": lambda: plots.ranking(stats.rank(_scores(), METHODS), value="score", label="deletion"),
    "curves": lambda: plots.curves(
        np.linspace(0, 1, 11), {m: _inputs((1, 11), 9)[1] for m in METHODS}, controls=CONTROLS
    ),
    "critical difference": _critical_difference,
    "metric table": lambda: plots.metric_table(
        [[0.1, np.nan], [0.5, 2e-5], [0.2, 1.0], [0.3, 12345.0]],
        METHODS,
        ["deletion", "pointing-game:tolerance=3"],
        ["lower", "higher"],
        controls=CONTROLS,
        strong=np.eye(4, 2),
    ),
    "intervals": lambda: plots.intervals(METHODS, stats.estimates(_scores()), label="tau", line=0.0),
    "times": lambda: plots.times([("method", name, 10.0**-i) for i, name in enumerate(METHODS)]),
    "table of images": lambda: plots.panels(
        np.repeat(_inputs(IMAGE)[0], 2, axis=0), ["0.98"] * 6, columns=2, rows=["a (0.98)"] * 3, heads=METHODS[:2]
    ),
    "agreement": lambda: plots.agreement(np.corrcoef(_scores().T), METHODS),
    "agreement of many": lambda: plots.agreement(
        np.corrcoef(_inputs((1, 9), 25)[1]), [f"metric-{i}" for i in range(25)]
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_as_svg(name: str) -> None:
    figure = FIGURES[name]()
    text = plots.svg(figure, label=name)
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == name
    assert len(text) < 60_000
    assert "currentColor" in text
    assert plots.INK not in text
    assert not re.search(r"fill:\s*(#ffffff|white)", text), "a white background hides in dark pages"
    assert "<style" not in text, "a style sheet would reach beyond the figure"
    assert "<metadata" not in text
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    referred = re.findall(r'(?:href="|url\()#([^")]+)', text)
    assert set(referred) == set(ids)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(name: str) -> None:
    figure = FIGURES[name]()
    with mpl.rc_context(plots.STYLE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.get_tightbbox(canvas.get_renderer())
    width, height = figure.get_size_inches()
    assert -0.03 < box.x0 < box.x1 < width + 0.03
    assert -0.03 < box.y0 < box.y1 < height + 0.03


@pytest.mark.parametrize("name", ["curves", "gallery of images", "confusion"])
def test_the_same_figure_gives_the_same_bytes(name: str) -> None:
    assert plots.svg(FIGURES[name]()) == plots.svg(FIGURES[name]())


def test_figures_on_one_page_share_no_id() -> None:
    texts = [plots.svg(FIGURES[name]()) for name in ("roc", "curves", "signal", "ranking")]
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in texts]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(ids, 2))


def _texts(figure: Figure) -> list[str]:
    """What is written, each line of a text by itself, in the order in which it is drawn."""
    root = ElementTree.fromstring(plots.svg(figure))
    return ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]


def test_names_are_shown_as_they_are() -> None:
    text = " ".join(_texts(FIGURES["confusion"]()))
    assert "cost $5 & <more>" in text
    assert "colorectal adenocarcinoma epithelium" in text
    assert "…" not in text


NAMED: dict[str, Callable[[], Figure]] = {
    "ranking": lambda: plots.ranking(stats.rank(_scores()[:, :2], [LONG, "edge"])),
    "questions": lambda: _questions([LONG, "edge"]),
    "curves": lambda: plots.curves([0, 1], {LONG: np.zeros((3, 2))}),
    "critical difference": lambda: plots.critical_difference([LONG, "edge"], [1.0, 2.0], []),
    "metric table": lambda: plots.metric_table([[1.0]], [LONG], [LONG], ["higher"]),
    "agreement": lambda: plots.agreement([[1.0]], [LONG]),
    "intervals": lambda: plots.intervals([LONG], [Estimate(0.5, 0.2, 0.7, 9)]),
    "times": lambda: plots.times([("method", LONG, 1.0)]),
    "gallery": lambda: plots.gallery(_inputs(IMAGE)[0], {LONG: _inputs(IMAGE)[1]}),
    "show": lambda: plots.show(_inputs(IMAGE)[0], {LONG: _inputs(IMAGE)[1]}),
}


@pytest.mark.parametrize("name", NAMED)
def test_no_name_is_cut(name: str) -> None:
    figure = NAMED[name]()
    assert LONG in "".join(_texts(figure)), name
    with mpl.rc_context(plots.STYLE):
        FigureCanvasAgg(figure).draw()
        box = figure.get_tightbbox()
    assert box.x1 - box.x0 < figure.get_size_inches()[0] + 0.06


def test_names_are_folded_at_breaks_and_else_set_smaller() -> None:
    assert fold("occlusion", 4) == "occlusion"
    assert fold("integrated-gradients:steps=20", 14) == "integrated-\ngradients:\nsteps=20"
    assert fit("occlusion", 2.0) == ("occlusion", 8.0)
    text, size = fit("occlusion", 0.3)
    assert text == "occlusion"
    assert width(text, size) <= 0.3 + 1e-9
    text, size = fit("input-x-gradient", 0.5)
    assert text.replace("\n", "") == "input-x-gradient"
    assert width(text, size) <= 0.5
    assert height("a\nb", 8.0) == 2 * height("a", 8.0)
    assert fit("", 1.0) == ("", 8.0)


def test_png_has_the_background_asked_for() -> None:
    from io import BytesIO

    from PIL import Image

    data = plots.png(FIGURES["signal"](), dpi=50, background="#102030")
    image = Image.open(BytesIO(data)).convert("RGB")
    assert image.getpixel((0, 0)) == (16, 32, 48)
    assert image.width == pytest.approx(360, abs=2)


def test_save_writes_under_the_name_asked_for(tmp_path: Path) -> None:
    figure = FIGURES["ranking"]()
    svg, pdf, png = (
        plots.save(figure, tmp_path / "new" / f"ranking.deletion{end}") for end in (".svg", ".pdf", ".PNG")
    )
    assert [path.name for path in (svg, pdf, png)] == [f"ranking.deletion{end}" for end in (".svg", ".pdf", ".PNG")]
    assert sorted(path.name for path in svg.parent.iterdir()) == sorted(path.name for path in (svg, pdf, png))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    first, second = (plots.save(FIGURES["ranking"](), tmp_path / f"{i}.pdf").read_bytes() for i in range(2))
    assert first == second
    vector = plots.svg(figure, label="a ranking")
    drawn = plots.save(figure, tmp_path / "drawn.svg", vector=vector).read_text(encoding="utf-8")
    assert drawn == vector.replace("font-family:inherit", "font-family:sans-serif")
    assert drawn != vector
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        plots.save(figure, tmp_path / "file" / "ranking.svg")
    with pytest.raises(InputError, match=r"ends in \.svg, \.pdf, \.png"):
        plots.save(figure, tmp_path / "ranking.jpg")


def test_figures_are_shown_in_notebooks() -> None:
    assert plots.ranking([])._repr_png_().startswith(b"\x89PNG")
    assert FIGURES["gallery of images"]()._repr_png_().startswith(b"\x89PNG")


def test_settings_of_the_user_are_kept() -> None:
    with mpl.rc_context({"font.size": 33, "axes.facecolor": "red"}):
        before = dict(mpl.rcParams)
        plots.svg(FIGURES["ranking"]())
        assert dict(mpl.rcParams) == before


def test_no_figure_needs_pyplot() -> None:
    for file in Path(plots.__file__).parent.glob("*.py"):
        assert "pyplot" not in file.read_text(encoding="utf-8").replace("without pyplot", ""), file.name


# ---------------------------------------------------------------- what is shown


def test_shade_is_clear_at_zero_and_told_apart_by_sign() -> None:
    colours = shade(np.array([-1.0, 0.0, 0.5, np.nan, 9.0]), strength=0.8)
    np.testing.assert_allclose(colours[:, 3], [0.8, 0.0, 0.4, 0.0, 0.8])
    assert (colours[0, :3] != colours[4, :3]).any()


def test_signed_maps_are_scaled_about_zero() -> None:
    np.testing.assert_array_equal(scaled(np.array([0.0, -4.0, 2.0, np.nan]), 100), [0.0, -1.0, 0.5, 0.0])
    np.testing.assert_array_equal(scaled(np.array([0.0, -1.0, 0.5, np.inf]), 100), [0.0, -1.0, 0.5, 0.0])
    np.testing.assert_array_equal(scaled(np.array([-1.0, -3.0]), 100), [-1 / 3, -1.0])


def test_maps_without_a_sign_are_scaled_above_their_floor() -> None:
    np.testing.assert_allclose(scaled(np.array([0.7, 0.8, 0.75, np.nan]), 100), [0.0, 1.0, 0.5, 0.0])
    assert strongest(np.array([[0.7, 0.9], [0.8, 0.75]])) == (0, 1)
    assert strongest(np.array([[0.7, -0.9], [np.nan, 0.75]])) == (0, 1)


def test_outliers_are_clipped() -> None:
    heat = np.arange(1000.0) - 500
    heat[3] = 1e6
    shown = scaled(heat)
    assert shown[3] == 1.0
    assert shown.min() < -0.99
    assert 0.19 < shown[600] < 0.21
    sparse = np.zeros(1000)
    sparse[7] = 2.0
    np.testing.assert_array_equal(scaled(sparse), sparse / 2)


@pytest.mark.parametrize("heat", [np.zeros(5), np.full(5, 0.7), np.full(5, -3.0), np.full(5, np.nan), np.ones(1)])
def test_constant_maps_are_empty_with_a_note(heat: np.ndarray) -> None:
    np.testing.assert_array_equal(scaled(heat), np.zeros_like(heat))
    word = "no finite value" if np.isnan(heat).any() else "constant map"
    assert note(heat) == word
    for drawing in ("overlay", "contour", "map"):
        assert word in _texts(plots.show(np.zeros((1, len(heat))), heat, drawing=drawing))
    assert word in _texts(plots.gallery(np.zeros((1, 1, len(heat))), {"a": heat[None]}))


def test_the_planted_span_is_marked() -> None:
    mask = np.array([0, 1, 1, 0, 0, 1], dtype=bool)
    assert runs(mask) == [(1, 3), (5, 6)]
    assert runs(np.ones(4, dtype=bool)) == [(0, 4)]
    assert runs(np.zeros(4, dtype=bool)) == []
    figure = plots.show(np.zeros((1, 6)), np.arange(6), mask=mask)
    spans = [(patch.get_x(), patch.get_width()) for patch in figure.axes[0].patches]
    assert spans == [(0.5, 2), (4.5, 1)]


def test_contours_of_a_signal_enclose_what_is_strong() -> None:
    heat = np.array([0, 0.5, 0.9, 1, 0, -0.5, 0, 0.1])
    figure = plots.show(np.zeros((1, 8)), heat, drawing="contour", percentile=100)
    boxes = [(patch.get_x(), patch.get_width()) for patch in figure.axes[0].patches]
    assert boxes == [(0.5, 3), (1.5, 2), (4.5, 1)]


def test_an_image_under_a_map_is_grey_and_warm_where_relevant() -> None:
    x = np.random.default_rng(0).random((3, 4, 4))
    heat = np.zeros((4, 4))
    heat[1, 2] = 1.0
    shown = picture(x, heat, 96)
    rest = np.delete(shown.reshape(-1, 3), 6, axis=0)
    np.testing.assert_allclose(rest, rest[:, :1].repeat(3, axis=1))
    assert shown[1, 2, 0] > shown[1, 2, 2]
    np.testing.assert_array_equal(picture(x, None, 96), np.moveaxis(x, 0, -1))


def test_large_images_are_shrunk() -> None:
    x = np.random.default_rng(0).random((2, 3, 300, 200))
    assert picture(x[0], x[0, 0], 96).shape == (96, 64, 3)
    text = plots.svg(plots.gallery(x, {"a": x[:, 0]}))
    assert len(text) < 60_000
    assert "image/jpeg" in text


def test_images_with_transparency_stay_png() -> None:
    assert _smaller("http://elsewhere") == "http://elsewhere"
    assert "image/jpeg" not in plots.svg(_single((1, 4000)))


def test_a_volume_is_cut_through_its_strongest_position() -> None:
    heat = np.zeros((5, 6, 7))
    heat[1, 2, 3], heat[4, 4, 4] = -4.0, 3.0
    figure = plots.show(np.zeros((1, 5, 6, 7)), heat)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["axis 1 at 1", "axis 2 at 2", "axis 3 at 3"]
    thumbs = plots.gallery(np.arange(5.0)[None, None, :, None, None] * np.ones((1, 1, 5, 6, 7)), {"a": heat[None]})
    assert len(thumbs.axes) == 3, "the slice by itself, with its map, and the scale"


def test_each_channel_of_a_signal_has_a_panel() -> None:
    x = np.random.default_rng(0).random((3, 20))
    figure = plots.show(x, {"a": x[0], "b": x[1]})
    lines = [axes.lines[0].get_ydata() for axes in figure.axes if axes.lines]
    np.testing.assert_array_equal(lines, [*x, *x])
    tops = [axes.get_position().y1 for axes in figure.axes[:3]]
    assert tops == sorted(tops, reverse=True)


@pytest.mark.parametrize("shape", [SIGNAL, LEADS, IMAGE, VOLUME])
def test_one_input_is_shown_as_a_batch_of_one_and_tensors_as_arrays(shape: tuple[int, ...]) -> None:
    x, heat, mask = (part[0] for part in _inputs(shape))
    drawn = plots.svg(plots.show(x, heat, mask=mask))
    tensor = torch.tensor(x, requires_grad=True)
    for inputs, maps, truth in (
        (x[None], heat[None], mask[None]),
        (x, heat[None], mask[None]),
        (tensor, torch.tensor(heat), torch.tensor(mask)),
    ):
        assert plots.svg(plots.show(inputs, maps, mask=truth)) == drawn


def test_methods_wrap_and_each_has_its_name() -> None:
    x, heat, _ = _inputs(IMAGE, 2)
    maps = dict.fromkeys(["a", "b", "c", "d"], heat)
    texts = _texts(plots.show(x, maps, columns=2, labels=["first", "second"]))
    assert [text for text in texts if text in ("input", *maps)] == ["input", "a", "b", "c", "d"] * 2
    wide = _texts(plots.show(x, maps, labels=["first", "second"]))
    assert sorted(text for text in wide if text in ("input", *maps)) == ["a", "b", "c", "d", "input"]
    assert {"first", "second"} <= set(texts) & set(wide)


def test_show_saves_under_the_name_asked_for(tmp_path: Path) -> None:
    x, heat, _ = _inputs(SIGNAL)
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<svg"), (".pdf", b"%PDF")):
        plots.show(x, heat, save=tmp_path / f"maps.v1{ending}")
        assert (tmp_path / f"maps.v1{ending}").read_bytes().startswith(start)


def test_input_x_gradient_of_an_image_is_visible_beside_an_outlier() -> None:
    heat = np.random.default_rng(0).normal(size=(40, 40))
    heat[5, 5] = 1000.0
    x = np.random.default_rng(1).random((1, 40, 40))
    clipped, whole = (
        np.asarray(plots.show(x, heat, drawing="map", percentile=share).axes[1].images[0].get_array())[..., 3]
        for share in (99.5, 100)
    )
    assert np.median(clipped) > 0.2 > 0.02 > np.median(whole)


def test_examples_say_label_prediction_and_probability() -> None:
    p = [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]
    performance = measure(p, [0, 0, 1], ["cat", "dog"], resamples=100)
    x = torch.zeros(3, 1, 8)
    captions = {
        k: [text.get_text() for text in plots.examples(performance, x, k).texts] for k in ("incorrect", "correct")
    }
    assert captions == {"incorrect": ["cat → dog (0.80)"], "correct": ["cat (0.90)", "dog (0.60)"]}
    assert not plots.examples(measure(np.eye(2), [0, 1], ["a", "b"], resamples=100), x).axes


def test_ranking_draws_the_intervals() -> None:
    rows = stats.rank(_scores(), METHODS)
    axes = plots.ranking(rows, controls=CONTROLS).axes[0]
    drawn = [segments.get_segments()[0][:, 0] for segments in axes.collections]
    np.testing.assert_allclose(drawn, [[row.rank.low, row.rank.high] for row in rows])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert [name.removesuffix(" (reference)") for name in names] == [row.name for row in rows]
    assert sum(name.endswith("(reference)") for name in names) == 2


def test_curves_draw_the_mean_in_its_interval() -> None:
    table = np.random.default_rng(0).random((30, 5))
    axes = plots.curves(np.arange(5), {"a": torch.tensor(table)}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), table.mean(axis=0))
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    expected = stats.estimates(table)
    assert band.min() == pytest.approx(min(e.low for e in expected))


def test_metric_table_is_shaded_against_the_best_control() -> None:
    figure = plots.metric_table(
        [[0.9], [0.1], [0.5]], ["good", "bad", "random"], ["m"], ["higher"], controls=["random"]
    )
    colours = np.asarray(figure.axes[0].images[0].get_array())[0]
    assert colours[2, 3] == 0.0
    assert colours[0, 3] == colours[1, 3] > 0
    turned = plots.metric_table([[0.9], [0.1], [0.5]], ["good", "bad", "random"], ["m"], ["lower"], controls=["random"])
    other = np.asarray(turned.axes[0].images[0].get_array())[0]
    np.testing.assert_array_equal(other[[1, 0, 2]], colours)


def test_metric_table_has_a_row_a_metric_whose_numbers_have_as_many_decimals() -> None:
    figure = plots.metric_table(
        [[0.3, 120.0, 2e-5], [-0.05, 7.0, np.nan]], ["a", "b"], ["m", "n", "o"], ["higher", "higher", "lower"]
    )
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["m ↑", "n ↑", "o ↓"]
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert numbers == ["0.300", "−0.050", "120", "7", "2e-5", "–"]


def test_intervals_are_drawn_and_quiet_ones_grey() -> None:
    estimates = [Estimate(0.5, 0.2, 0.7, 9), Estimate(-0.1, -0.3, 0.1, 9)]
    axes = plots.intervals(["a", "b"], estimates, quiet=[False, True], line=0.0).axes[0]
    drawn = [part.get_segments()[0][:, 0].tolist() for part in axes.collections]
    assert drawn == [[0.2, 0.7], [-0.3, 0.1]]
    colours = [part.get_color()[0].tolist() for part in axes.collections]
    assert colours[0] != colours[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_times_are_bars_of_their_kind() -> None:
    axes = plots.times([("method", "grad-cam", 2.5), ("metric", "deletion", 1.0), ("check", "all", 0.25)]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.5, 1.0, 0.25]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3
    assert [text.get_text() for text in axes.texts] == [" 2.5", " 1", " 0.25"]


def test_heat_is_clear_at_zero_warm_above_and_deepens() -> None:
    colours = heat(np.array([0.0, 0.3, 1.0, -0.3, -1.0, np.nan, 7.0]))
    assert colours[0, 3] == colours[5, 3] == 0.0
    np.testing.assert_array_equal(colours[6], colours[2])
    assert colours[1, 3] < colours[2, 3]
    assert colours[1, :3].sum() > colours[2, :3].sum(), "more relevance is darker"
    assert colours[2, 0] > colours[2, 2]
    assert colours[4, 2] > colours[4, 0]


def test_heatmaps_have_a_scale_that_reaches_below_zero_only_where_maps_do() -> None:
    x, signed, _ = _inputs(IMAGE)
    words = [
        [tick.get_text() for tick in plots.gallery(x, {"a": maps}).axes[-1].get_xticklabels()]
        for maps in (signed, np.abs(signed))
    ]
    assert words == [["most against", "none", "most for"], ["least", "most for"]]


def test_images_in_panels_stand_beside_their_maps() -> None:
    x, maps, _ = _inputs(IMAGE)
    figure = plots.panels(x, ["a", "b", "c"], maps=maps)
    assert [text.get_text() for text in figure.texts] == ["a", "its map", "b", "its map", "c", "its map"]
    signals, heats, _ = _inputs(SIGNAL)
    assert len(plots.panels(signals, ["a", "b", "c"], maps=heats).axes) == 4


def test_labels_are_turned_where_they_would_touch() -> None:
    assert crowded(["STROMA", "COMPLEX", "LYMPHO", "ADIPOSE"] * 2, 5.0)
    assert not crowded(["0", "1", "2"], 5.0)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: plots.intervals(["a"], []), "one each"),
        (lambda: plots.show(np.zeros(5), np.zeros(5)), "one to three"),
        (lambda: plots.show(np.zeros((1, 5)), np.zeros(4)), r"map: got shape \(4,\) .* expected \(5,\)"),
        (lambda: plots.show(np.zeros((2, 3, 5)), {"a": np.zeros((2, 5)), "b": np.zeros((2, 3, 5))}), "map of b: got"),
        (lambda: plots.show(np.zeros((1, 5)), np.zeros(5), mask=np.zeros(4)), "mask"),
        (lambda: plots.show(np.zeros((1, 5)), {}), "maps: got none"),
        (lambda: plots.show(np.zeros((1, 5)), np.array(["a"] * 5)), "expected numbers"),
        (lambda: plots.show(np.zeros((1, 5)), np.zeros(5), labels=["a", "b"]), "labels"),
        (lambda: plots.show(np.zeros((1, 5)), np.zeros(5), percentile=0), "percentile"),
        (lambda: plots.show(np.zeros((1, 5)), np.zeros(5), columns=0), "columns"),
        (lambda: plots.show(np.zeros((1, 5)), np.zeros(5), save="maps.bmp"), "ends in"),
        (lambda: plots.gallery(np.zeros((2, 1, 5)), {"edge": np.zeros((2, 4))}), "map of edge"),
        (lambda: plots.gallery(np.zeros((2, 1, 5)), {}, labels=["a"]), "labels"),
        (lambda: plots.gallery(np.zeros((2, 1, 5)), {"edge": np.zeros((2, 5))}, mask=np.zeros((2, 4))), "mask"),
        (lambda: plots.panels(np.zeros((2, 1, 5)), ["a"]), "captions"),
        (lambda: plots.panels(np.zeros((2, 1, 5)), ["a", "b"], maps=np.zeros((1, 5))), "map"),
        (lambda: plots.curves([0, 1], {"a": np.zeros((3, 3))}), "curves of a"),
        (lambda: plots.critical_difference(["a"], [1.0, 2.0], []), "mean ranks"),
        (lambda: plots.metric_table([[1.0]], ["a", "b"], ["m"], ["higher"]), "methods"),
        (lambda: plots.agreement(np.eye(2), ["a"]), "names"),
    ],
)
def test_misfits_are_named(call: Callable[[], Figure], word: str) -> None:
    with pytest.raises(InputError, match=word):
        call()


def test_empty_and_constant_inputs_are_drawn() -> None:
    figures = [
        plots.ranking([]),
        plots.history([]),
        plots.curves([0, 1], {}),
        plots.show(np.zeros((1, 5)), np.zeros(5)),
        plots.show(np.full((1, 5), np.nan), np.arange(5)),
        plots.show(np.zeros((0, 1, 5)), np.zeros((0, 5))),
        plots.show(np.full((3, 4, 4), 0.5), np.full((4, 4), np.nan), mask=np.ones((4, 4)), drawing="contour"),
        plots.critical_difference(["only"], [1.0], [(0,)]),
        plots.agreement([[1.0, np.nan], [np.nan, 1.0]], ["a", "b"]),
        plots.gallery(np.zeros((0, 1, 5)), {}),
        plots.ranking(stats.rank([[0.1, np.nan]], ["one", "none"])),
        plots.roc(measure([[0.3, 0.7]], [1], ["no", "yes"], resamples=100)),
        plots.per_class(measure([[0.3, 0.7]], [1], ["no", "yes"], resamples=100)),
        plots.reliability(measure([[0.3, 0.7]], [1], ["no", "yes"], resamples=100)),
    ]
    for figure in figures:
        ElementTree.fromstring(plots.svg(figure))


def test_the_code_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    page = (root / "docs" / "plots.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for source in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        exec(compile(source, "plots.md", "exec"), names)
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "confusion.pdf").read_bytes().startswith(b"%PDF")


def test_the_page_names_every_figure_and_option(root: Path) -> None:
    page = (root / "docs" / "plots.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`(?:hp\.|plots\.)?(\w+)", page))
    assert {name for name in plots.__all__ if name.islower()} <= words
    options = [p.name for p in inspect.signature(plots.show).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert len(options) <= 6
    assert set(options) <= words


def test_answers_and_captions_that_do_not_fit_are_refused() -> None:
    one = plots.Answer(Estimate(0.5, 0.4, 0.6, 9))
    with pytest.raises(InputError, match="1 answers for 2 names"):
        plots.questions(["a", "b"], {"where": [one]})
    with pytest.raises(InputError, match="2 scores for 1 questions"):
        plots.questions(["a"], {"where": [one]}, references={"edge": (0.1, 0.2)})
    with pytest.raises(InputError, match="captions of a"):
        plots.gallery(np.zeros((2, 1, 8)), {"a": np.ones((2, 8))}, captions={"a": ["x"]})


def test_captions_stand_above_the_maps_they_belong_to() -> None:
    drawn = plots.gallery(np.zeros((2, 1, 8, 8)), {"a": np.ones((2, 8, 8))}, captions={"a": ["first", "second"]})
    assert {"first", "second"} <= set(_texts(drawn))
