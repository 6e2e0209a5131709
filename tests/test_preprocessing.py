"""Preprocessing: the record, what libraries declare, images read as those libraries read them, samples that differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import heatproof as hp
from heatproof.cli import main
from heatproof.data.images import LazyImages, check_images, read_image
from heatproof.errors import FileError, InputError, UnknownName, UsageError
from heatproof.models import names as models
from heatproof.models import zoo
from heatproof.models.card import Card, attach, card_of
from heatproof.models.inputs import check_inputs, prepared, preprocessing_of
from heatproof.models.presets import of_timm, of_torchvision
from heatproof.performance import evaluate
from heatproof.preprocessing import Preprocessing, SignalPreprocessing, from_record, read, squashed
from heatproof.probe import HeatproofWarning
from heatproof.records import Samples
from heatproof.registry import Spec

RANDOM = np.random.default_rng(3)
SIZES = [(67, 91), (91, 67), (64, 64), (201, 117), (33, 47), (300, 255)]  # width and height, odd ones among them
NORMAL = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def scene(path: Path, size: tuple[int, int] = (91, 67), mode: str = "RGB") -> Path:
    """A picture with edges, gradients and noise."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (3 + k)) * np.cos(y / (5 - k)) for k in range(3)]
    values = np.stack(waves, axis=-1) + RANDOM.normal(0, 12, (height, width, 3))
    values[height // 3 : height // 2, width // 4 : width // 2] = (250, 20, 60)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert(mode).save(path)
    return path


def ours(path: Path, preprocessing: Preprocessing) -> torch.Tensor:
    pixels, _ = read_image(path, preprocessing)
    return preprocessing.scaled(pixels)


# The record


@pytest.mark.parametrize(
    "record",
    [
        Preprocessing(),
        squashed(None, 1, "signed"),
        read("imagenet:resize=256,crop=224,interpolation=bicubic"),
        Preprocessing(order="bgr", scale=1.0, rounding="down", origin="somewhere"),
    ],
)
def test_records_survive_json(record: Preprocessing) -> None:
    again = from_record(json.loads(json.dumps(record.record())))
    assert again == record
    assert str(again) == str(record)
    hash(record)


def test_signals_survive_json() -> None:
    record = SignalPreprocessing(values="log-mel", rate=16000, mels=128, length=1024, normalise="fixed", std=9.0)
    assert from_record(json.loads(json.dumps(record.record()))) == record
    assert str(record) == (
        "log-mel spectrogram of 128 bands, sampled at 16,000 Hz, 1,024 frames long, less 0, divided by 9"
    )
    assert from_record(None) is None


def test_preprocessing_by_hand() -> None:
    assert read("imagenet") == Preprocessing(**NORMAL)
    assert read("unit:channels=1") == squashed((224, 224), 1)
    assert read("signed:resize=96+80") == squashed((96, 80), 3, "signed")
    assert read({"resize": [256], "crop": 224, "mean": 0.5, "std": [0.1, 0.2, 0.3]}) == Preprocessing(
        fit="shorter", resize=(256,), crop=(224, 224), mean=(0.5,) * 3, std=(0.1, 0.2, 0.3)
    )
    assert read({"channels": 1}) == squashed((224, 224), 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("imagnet", "unknown preprocessing 'imagnet'; did you mean 'imagenet'"),
        ("imagenet:rezize=256", "unknown key of a preprocessing 'rezize'; did you mean 'resize'"),
        ({"normalize": True}, "unknown key of a preprocessing 'normalize'"),
        ({"mean": [0.5]}, r"mean got \(0.5,\), expected 3 numbers, one a channel"),
        ({"std": [0.0, 1.0, 1.0]}, "numbers other than zero"),
        ({"std": float("nan")}, r"std got \(nan, nan, nan\)"),
        ({"scale": -1}, "a positive scale"),
        ({"crop": (3, 0)}, r"crop got \(3, 0\), expected whole numbers above 0"),
        ({"crop": (3, 4, 5)}, "crop got"),
        ({"crop": ()}, "crop got"),
        ({"crop": "big"}, "crop got 'big'"),
        ({"resize": (1, 2, 3)}, "resize got"),
        ({"resize": 0}, "resize got"),
        ({"resize": 1.5}, "resize got"),
        ({"mean": [True, False, True]}, "mean got"),
        ({"scale": "1/255"}, "scale got '1/255'"),
        ({"fit": "fill"}, "fit got 'fill', expected one of file, squash"),
        ({"interpolation": "spline"}, "interpolation got 'spline'"),
        ({"channels": 2}, r"channels got 2, expected 1 \(grey\) or 3 \(RGB\)"),
        ({"channels": 1, "order": "bgr"}, "order got 'bgr'"),
        ("imagenet:channels=1", "mean got"),
    ],
)
def test_preprocessing_that_cannot_be(value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(value)
    assert "\n" not in str(caught.value)


# As the libraries read images


TORCHVISION = [
    ("resnet18", ""),
    ("resnet50", "DEFAULT"),
    ("resnet50", "IMAGENET1K_V1"),
    ("efficientnet_b3", ""),
    ("inception_v3", ""),
    ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
    ("swin_v2_t", ""),
    ("vgg16", "IMAGENET1K_FEATURES"),
]


@pytest.mark.parametrize(("name", "tag"), TORCHVISION)
@pytest.mark.parametrize("size", SIZES)
def test_images_are_those_of_torchvision(tmp_path: Path, name: str, tag: str, size: tuple[int, int]) -> None:
    from torchvision.models import get_model_weights

    members = get_model_weights(name).__members__
    record, _ = of_torchvision({key: weights.transforms() for key, weights in members.items()}, tag)
    path = scene(tmp_path / "scene.png", size)
    want = members[tag or "DEFAULT"].transforms()(Image.open(path))
    torch.testing.assert_close(ours(path, record), want, rtol=0, atol=0)


TIMM = [
    "resnet18",
    "resnet50.a1_in1k",
    "efficientnet_b0",
    "vit_tiny_patch16_224",
    "vit_small_patch16_384",
    "swin_tiny_patch4_window7_224",
    "convnext_atto",
    "mobilenetv3_small_050",
    "inception_v3",
    "vit_base_patch16_clip_224.openai_ft_in1k",
    "beit_base_patch16_384",
]


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("size", SIZES)
def test_images_are_those_of_timm(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    path = scene(tmp_path / "scene.png", size)
    want = timm.data.create_transform(**config, is_training=False)(Image.open(path))
    torch.testing.assert_close(ours(path, of_timm(config)), want, rtol=0, atol=0)


def test_images_of_timm_that_are_not_square(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    for mode in ("center", "squash"):
        config = {**NORMAL, "input_size": (3, 48, 64), "crop_pct": 0.9, "crop_mode": mode, "interpolation": "bicubic"}
        for i, size in enumerate(SIZES):
            path = scene(tmp_path / f"{i}.png", size)
            want = timm.data.create_transform(**config, is_training=False)(Image.open(path))
            torch.testing.assert_close(ours(path, of_timm(config)), want, rtol=0, atol=0)
    with pytest.raises(UsageError, match="crop_mode 'border', expected center or squash"):
        of_timm({**config, "crop_mode": "border"})


def test_every_network_of_the_libraries_has_a_preprocessing() -> None:
    from torchvision import models as library

    for name in library.list_models(module=library):
        presets = {key: w.transforms() for key, w in library.get_model_weights(name).__members__.items()}
        record, others = of_torchvision(presets)
        assert record.size is not None
        assert all(of_torchvision(presets, other)[0] != record for other in others)
    with pytest.raises(UnknownName, match="unknown weights 'IMAGENET1K_V9'"):
        of_torchvision(presets, "IMAGENET1K_V9")


def test_video_weights_are_refused() -> None:
    from torchvision.models import get_model_weights

    presets = {key: w.transforms() for key, w in get_model_weights("r3d_18").__members__.items()}
    with pytest.raises(UsageError, match="VideoClassification, expected images"):
        of_torchvision(presets)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16"])
def test_grey_and_other_images_for_a_model_of_colours(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "g.png"
    if mode == "I;16":
        Image.fromarray(RANDOM.integers(0, 65536, (61, 47), dtype=np.uint16)).save(path)
    else:
        scene(path, (47, 61), "L").rename(path)
        Image.open(path).convert(mode).save(path)
    record = read("imagenet:resize=40,crop=33")
    values = ours(path, record)
    assert values.shape == (3, 33, 33)
    grey = values * torch.tensor(record.std).view(-1, 1, 1) + torch.tensor(record.mean).view(-1, 1, 1)
    torch.testing.assert_close(grey[0], grey[2], rtol=0, atol=1e-5)


def test_a_long_thin_image_cannot_fill_memory(tmp_path: Path) -> None:
    Image.new("L", (60_000, 1)).save(tmp_path / "thin.png")
    with pytest.raises(FileError, match=r"thin\.png: .*1 x 60000 pixels become 256 x 15,360,000"):
        read_image(tmp_path / "thin.png", read("unit:resize=256,crop=224"))


def test_reading_from_disk_equals_reading_at_once(tmp_path: Path) -> None:
    paths = [scene(tmp_path / f"{i}.png", size) for i, size in enumerate(SIZES)]
    record = read("imagenet:resize=40,crop=33,interpolation=bicubic,order=bgr")
    images = check_images(paths, record).images
    assert isinstance(images, LazyImages)
    torch.testing.assert_close(images[:], torch.stack([ours(path, record) for path in paths]), rtol=0, atol=0)
    plain = torch.stack([ours(path, replace(record, order="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)) for path in paths])
    want = (plain.flip(1) - torch.tensor(record.mean).view(-1, 1, 1)) / torch.tensor(record.std).view(-1, 1, 1)
    torch.testing.assert_close(images[:], want)


# On the card, and in the data


class Mean(nn.Module):
    """Two classes by the mean of an image, with the sign that tells how it was scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).mean((2, 3))


def classifier(preprocessing: Any) -> nn.Module:
    model = Mean().eval()
    attach(model, Card(Spec("test:mean"), (3, None, None), ("a", "b"), preprocessing=preprocessing))
    return model


def tree(root: Path) -> Path:
    for name in ("a", "b"):
        for i in range(4):
            scene(root / name / f"{i}.png", (30 + i, 41))
    return root


IMAGENET = read("imagenet:resize=24,crop=20")


def test_the_card_keeps_it(tmp_path: Path) -> None:
    model = hp.nets.build("small-cnn:rank=2,channels=3,classes=2")
    card = Card(Spec.parse("small-cnn:rank=2,channels=3,classes=2"), (3, 20, 20), ("a", "b"), preprocessing=IMAGENET)
    hp.save(model, tmp_path / "m", card)
    assert hp.load(tmp_path / "m").card.preprocessing == IMAGENET
    assert hp.load(tmp_path / "m", preprocessing="none").card.preprocessing is None
    assert hp.load(tmp_path / "m", preprocessing="unit").card.preprocessing == squashed((224, 224))
    page = json.loads((tmp_path / "m" / "card.json").read_text())
    assert page["preprocessing"]["crop"] == [20, 20]
    older = {key: value for key, value in page.items() if key not in ("preprocessing", "outputs")}
    (tmp_path / "m" / "card.json").write_text(json.dumps(older))
    assert hp.load(tmp_path / "m").card.preprocessing is None
    (tmp_path / "m" / "card.json").write_text(json.dumps({**page, "preprocessing": {"resize": "x"}}))
    with pytest.raises(FileError, match="is damaged"):
        hp.load(tmp_path / "m")


def test_a_folder_is_read_for_a_model(tmp_path: Path) -> None:
    splits = hp.data.folder(tree(tmp_path), preprocessing=IMAGENET)
    assert splits.test.x.shape == (2, 3, 20, 20)
    assert preprocessing_of(splits.test) == IMAGENET
    check_inputs(classifier(IMAGENET), splits.test)
    with pytest.raises(UsageError, match="option channels got 1, the preprocessing has 3"):
        hp.data.folder(tmp_path, preprocessing=IMAGENET, channels=1)
    with pytest.raises(UsageError, match="got None; where a model's card has none"):
        hp.data.folder(tmp_path, preprocessing=None)


def test_samples_scaled_otherwise_are_refused(tmp_path: Path) -> None:
    splits, model = hp.data.folder(tree(tmp_path), size=20), classifier(IMAGENET)
    message = (
        r"images are RGB, values in \[0, 1\]; the model takes RGB, values in \[0, 1\], less \(0.485, .* "
        "Read them with preprocessing=model.card.preprocessing"
    )
    for call in (evaluate, hp.study):
        with pytest.raises(InputError, match=message):
            call(model, splits.test)
    with pytest.raises(InputError, match=message):
        evaluate(hp.Probe(model), splits.test)  # type: ignore[arg-type]
    model.model = nn.Identity()  # a module of that name is not the model
    with pytest.raises(InputError, match=message):
        evaluate(model, splits.test)


def test_another_size_is_said(tmp_path: Path) -> None:
    splits = hp.data.folder(tree(tmp_path), preprocessing=IMAGENET, size=24)
    with pytest.warns(HeatproofWarning, match="resized to 24 x 24 pixels, .*; the model's are shorter side resized"):
        check_inputs(classifier(IMAGENET), splits.test)


def arrays(low: float, high: float, about: dict[str, Any] | None = None) -> Samples:
    x = torch.linspace(low, high, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)
    return Samples(x, [0, 1, 0, 1], classes=("a", "b"), name="arrays", about=about or {})


def test_arrays_that_say_nothing() -> None:
    model = classifier(IMAGENET)
    with pytest.raises(InputError, match=r"arrays: values from 0 to 255; the model takes -2.12 to 2.64"):
        check_inputs(model, arrays(0, 255))
    with pytest.warns(HeatproofWarning, match="values from 0 to 1; the model takes .* nothing says"):
        check_inputs(model, arrays(0, 1))
    check_inputs(model, arrays(-2, 2))
    check_inputs(classifier(squashed((8, 8))), arrays(0, 1))
    check_inputs(classifier(None), arrays(0, 255))
    check_inputs(Mean(), arrays(0, 255))


def test_arrays_that_say_how_they_are_scaled_are_scaled() -> None:
    model = classifier(read("imagenet:resize=8+8"))
    samples = arrays(0, 1, {"preprocessing": "unit"})
    with pytest.raises(InputError, match=r"Convert them with heatproof\.models\.inputs\.prepared"):
        check_inputs(model, samples)
    ready = prepared(samples, model)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (NORMAL["mean"], NORMAL["std"]))
    torch.testing.assert_close(ready.x[:], (samples.x[:] - mean) / std)
    evaluate(model, replace(ready, about={**ready.about, "preprocessing": read({**ready.about["preprocessing"]})}))
    assert prepared(ready, model) is ready
    bytes_ = arrays(0, 255, {"preprocessing": {"scale": 1.0, "resize": [8, 8]}})
    torch.testing.assert_close(prepared(bytes_, model).x[:], (bytes_.x[:] / 255 - mean) / std)
    with pytest.raises(InputError, match=r"about\['preprocessing'\]: unknown preprocessing"):
        check_inputs(model, arrays(0, 1, {"preprocessing": "unti"}))
    with pytest.raises(InputError, match="convert them"):
        prepared(arrays(0, 1, {"preprocessing": {"order": "bgr"}}), model)


def test_integers_in_a_file_are_bytes(tmp_path: Path) -> None:
    x = RANDOM.integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "b.npz", x=x, y=np.arange(10) % 2)
    parts = hp.data.load("arrays", tmp_path / "b.npz")
    record = preprocessing_of(parts.test)
    assert isinstance(record, Preprocessing)
    assert (record.scale, record.channels) == (1.0, 3)
    model = classifier(read("imagenet:resize=8+8"))
    ready = prepared(parts.test, model)
    check_inputs(model, ready)
    with pytest.warns(HeatproofWarning, match="images are 8 x 8 pixels; the model's are shorter side resized"):
        check_inputs(classifier(IMAGENET), ready)
    assert float(ready.x[:].min()) < -1
    np.savez(tmp_path / "f.npz", x=x / 255, y=np.arange(10) % 2)
    assert preprocessing_of(hp.data.load("arrays", tmp_path / "f.npz").test) is None


def test_a_trained_model_remembers_how_images_were_read(tmp_path: Path) -> None:
    splits = hp.data.folder(tree(tmp_path / "tiles"), preprocessing="signed", size=16)
    model = hp.train(splits, recipe="fast", epochs=1, net="small-cnn:rank=2", quiet=True)
    assert model.card.preprocessing == squashed((16, 16), 3, "signed")
    hp.save(model, tmp_path / "m")
    assert hp.load(tmp_path / "m").card.preprocessing == squashed((16, 16), 3, "signed")


# Networks of libraries


@pytest.fixture
def shuffle(tmp_path: Path) -> Path:
    """Weights of two classes for a small network of torchvision."""
    network = zoo.build("torchvision:shufflenet_v2_x0_5", classes=2)
    save_file(network.state_dict(), tmp_path / "two.safetensors")
    return tmp_path / "two.safetensors"


def test_a_network_of_torchvision_has_the_preprocessing_of_its_weights(shuffle: Path) -> None:
    with pytest.warns(HeatproofWarning, match="weights of 1000 classes expect it") as caught:
        network = models.model("shufflenet_v2_x0_5", weights=shuffle)
    assert len(caught) == 1
    card = card_of(network)
    assert card is not None
    assert card.preprocessing == read("imagenet:resize=256,crop=224")
    assert "torchvision's weights IMAGENET1K_V1" in str(card.preprocessing)
    card = card_of(models.model("shufflenet_v2_x0_5", weights=shuffle, preprocessing="unit"))
    assert card is not None
    assert card.preprocessing == squashed((224, 224))
    card = card_of(models.model("shufflenet_v2_x0_5", weights=shuffle, preprocessing="IMAGENET1K_V1"))
    assert card is not None
    assert card.preprocessing == read("imagenet:resize=256,crop=224")
    with pytest.raises(UnknownName, match="IMAGENET1K_V7"):
        models.model("shufflenet_v2_x0_5", weights=shuffle, preprocessing="IMAGENET1K_V7")


def test_a_choice_between_weights_is_said() -> None:
    network = zoo.build("torchvision:mobilenet_v3_large")
    with pytest.warns(HeatproofWarning, match="IMAGENET1K_V2.*weights such as IMAGENET1K_V1 expect another"):
        card = zoo.card("torchvision:mobilenet_v3_large", network)
    assert card.preprocessing == read("imagenet:resize=232,crop=224")


def test_a_network_of_timm_has_its_configuration() -> None:
    pytest.importorskip("timm")
    card = zoo.card("timm:vit_tiny_patch16_224", zoo.build("timm:vit_tiny_patch16_224"))
    assert card.preprocessing == read("signed:resize=248,crop=224,interpolation=bicubic")


def test_a_folder_is_read_as_the_network_wants_it(
    shuffle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path that scaled to [0, 1] only."""
    from heatproof.pipeline import stages
    from heatproof.pipeline.plan import Plan

    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "tiles")
    plan = Plan(data=Spec("folder"), path="tiles", model="torchvision:shufflenet_v2_x0_5", weights=str(shuffle))
    with pytest.warns(HeatproofWarning, match="expect it"):
        network = stages.classifier(plan)
    parts = stages.splits(plan, network)
    assert preprocessing_of(parts.test) == read("imagenet:resize=256,crop=224")
    assert float(parts.test.x[:].min()) < -1
    words = ["--model", "torchvision:shufflenet_v2_x0_5", "--weights", str(shuffle), "--path", "tiles"]
    capsys.readouterr()
    assert main(["evaluate", *words, "--data", "folder:preprocessing=unit"]) == 2
    assert "the model takes RGB, values in [0, 1], less" in capsys.readouterr().err
    assert main(["evaluate", *words, "--data", "folder", "--preprocessing", "unit"]) == 0
    assert main(["evaluate", *words, "--data", "folder", "--preprocessing", "untt"]) == 2
    assert main(["evaluate", "--data", "folder", "--path", "tiles", "--preprocessing", "unit"]) == 2


def test_the_report_shows_it() -> None:
    from heatproof.report.content import Content
    from heatproof.report.sections.settings import section

    card = Card(Spec("x"), (3, 8, 8), ("a", "b"), preprocessing=IMAGENET)
    page = str(section(Content(card=card)))
    assert "shorter side resized to 24 pixels (bilinear), centre crop of 20 x 20; RGB, values in [0, 1], less" in page


def test_a_changed_folder_of_a_model_makes_a_run_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heatproof.pipeline.completion import provenance
    from heatproof.pipeline.plan import Plan

    monkeypatch.chdir(tmp_path)
    Path("vit").mkdir()
    Path("vit", "config.json").write_text("{}")
    before = provenance(Plan(model="hf:vit"))
    Path("vit", "config.json").write_text("{ }")
    assert provenance(Plan(model="hf:vit")) != before


@pytest.mark.parametrize(
    ("x", "words"),
    [(torch.rand(2, 3, 16, 16) * 255, "are no pixel values"), (torch.rand(2, 3, 16, 16), "look unscaled"),
     (torch.randn(2, 3, 16, 16).clamp(-2, 2), "")],
)  # fmt: skip
def test_maps_of_inputs_that_were_scaled_otherwise_come_with_a_warning(x: torch.Tensor, words: str) -> None:
    net = hp.nets.build("small-cnn:rank=2,channels=3,classes=2").eval()
    attach(net, Card(Spec("x"), (3, 16, 16), ("a", "b"), preprocessing=IMAGENET))
    if words:
        with pytest.warns(HeatproofWarning, match=words):
            hp.explain(net, x, "saliency")
    else:
        hp.explain(net, x, "saliency")
