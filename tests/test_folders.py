"""Folders of Hugging Face, bundles of MONAI, checkpoints of Lightning: read without executing anything, or refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import heatproof as hp
from heatproof.cli import main
from heatproof.data.images import read_image
from heatproof.errors import FileError, InputError, UsageError
from heatproof.models import names as models
from heatproof.models.card import card_of
from heatproof.models.factory import fill, resolve_factory
from heatproof.models.formats import hf as huggingface
from heatproof.models.formats import monai as bundles
from heatproof.preprocessing import SignalPreprocessing, read, squashed
from heatproof.probe import HeatproofWarning
from heatproof.records import Samples

RANDOM = np.random.default_rng(5)


# Folders of Hugging Face


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, never reaching the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers")


SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def vit(T: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = T.ViTConfig(**SMALL, image_size=32, patch_size=8, **{"num_labels": 3, **options})
    return T.ViTForImageClassification(config).eval()


@pytest.fixture
def plain(transformers: Any, tmp_path: Path) -> Path:
    """A folder with a small ViT and the processor of ViTs."""
    vit(transformers, id2label={0: "cat", 1: "dog", 2: "eel"}, label2id={"cat": 0, "dog": 1, "eel": 2}).save_pretrained(
        tmp_path / "vit"
    )
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def change(file: Path, **entries: Any) -> None:
    """Settings of a JSON file replaced; None takes one away."""
    page = {**json.loads(file.read_text()), **entries}
    file.write_text(json.dumps({key: value for key, value in page.items() if value is not None}))


def test_a_folder_is_a_classifier_with_its_card(transformers: Any, plain: Path) -> None:
    x = torch.rand(2, 3, 32, 32)
    theirs = transformers.ViTForImageClassification.from_pretrained(plain).eval()
    for name in (plain, str(plain), f"hf:{plain}"):
        model = hp.load(name)
        with torch.no_grad():
            torch.testing.assert_close(model(x), theirs(pixel_values=x).logits)
        card = card_of(model)
        assert card is not None
        assert (card.classes, card.outputs, card.input_shape) == (("cat", "dog", "eel"), "logits", (3, 32, 32))
        assert card.preprocessing == read("signed:resize=32+32,rounding=even")
        assert not model.training
    assert card_of(models.model(f"hf:{plain}", classes=("a", "b", "c"))).classes == ("a", "b", "c")  # type: ignore[union-attr]


def processors(T: Any) -> list[Any]:
    square = {"height": 32, "width": 32}
    return [
        T.ViTImageProcessor(size=square, resample=3, image_mean=[0.1, 0.2, 0.3]),
        T.ViTImageProcessor(size=square, do_normalize=False),
        T.ViTImageProcessor(size=square, do_rescale=False, image_mean=[120.0, 99.0, 98.0], image_std=[60.0, 9.0, 8.0]),
        T.DeiTImageProcessor(size={"height": 39, "width": 39}, crop_size=square),
        T.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
        T.ConvNextImageProcessor(size={"shortest_edge": 384}),
        T.BitImageProcessor(size={"shortest_edge": 39}, crop_size={"height": 33, "width": 32}),
        T.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square),
        T.CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=square),
        T.MobileViTImageProcessor(size={"shortest_edge": 36}, crop_size=square),
        T.LevitImageProcessor(size={"shortest_edge": 32}, crop_size=square),
        T.PoolFormerImageProcessor(size={"shortest_edge": 32}, crop_size=square),
        T.EfficientNetImageProcessor(size=square, resample=2),
        T.EfficientNetImageProcessor(size=square, resample=0, rescale_factor=1 / 127.5, rescale_offset=True),
        T.BeitImageProcessor(size=square, do_center_crop=True, crop_size={"height": 30, "width": 31}),
        T.SiglipImageProcessor(size=square),
    ]  # fmt: skip


@pytest.mark.parametrize("index", range(16))
def test_images_are_those_of_the_processor(transformers: Any, plain: Path, tmp_path: Path, index: int) -> None:
    shutil.rmtree(plain)
    vit(transformers).save_pretrained(plain)
    processors(transformers)[index].save_pretrained(plain)
    record = hp.load(plain).card.preprocessing
    exact = transformers.AutoImageProcessor.from_pretrained(plain, use_fast=False)
    usual = transformers.AutoImageProcessor.from_pretrained(plain)
    steps = torch.tensor(record.std).view(-1, 1, 1) / record.scale
    for i, (width, height) in enumerate([(91, 67), (67, 101), (300, 211), (64, 64)]):
        noise = Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))
        noise.resize((2 * width, 2 * height), 3).save(tmp_path / f"{i}.png")
        pixels, _ = read_image(tmp_path / f"{i}.png", record)
        ours, image = record.scaled(pixels), Image.open(tmp_path / f"{i}.png")
        want = exact(image, return_tensors="pt")["pixel_values"][0]
        assert float(((ours - want) * steps).abs().max()) < 1e-3
        if record.interpolation != "nearest":  # torchvision takes another nearest pixel than PIL
            want = usual(image, return_tensors="pt")["pixel_values"][0]
            assert float(((ours - want) * steps).abs().max()) < 2.5


def test_settings_at_their_defaults(transformers: Any, plain: Path) -> None:
    """Old files leave out what is the default of their processor, and write a size as a number."""
    file = plain / "preprocessor_config.json"
    file.write_text(json.dumps({"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "do_normalize": True}))
    assert hp.load(plain).card.preprocessing == read("signed:resize=32+32")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"do_sharpen": True}, "'do_sharpen' is not understood, and may change the pixels; state what images"),
        ({"do_pad": True, "gamma": 2.0}, "'do_pad', 'gamma' is not understood"),
        ({"image_mean": [0.5]}, "image_mean has 1 values for 3 channels"),
        ({"size": {"longest_edge": 32}}, "preprocessor_config.json'"),
        ({"image_processor_type": "NoSuchProcessor"}, "preprocessor_config.json'"),
        ({"image_processor_type": "PerceiverImageProcessor", "do_center_crop": True}, "is not understood"),
    ],
)
def test_settings_that_are_not_understood(plain: Path, entries: dict[str, Any], message: str) -> None:
    change(plain / "preprocessor_config.json", **entries)
    with pytest.raises(FileError, match=message) as caught:
        hp.load(plain)
    assert "\n" not in str(caught.value)
    assert hp.load(plain, preprocessing="unit").card.preprocessing == squashed((224, 224))
    assert hp.load(plain, preprocessing="none").card.preprocessing is None


def test_harmless_settings_are_passed_over(plain: Path) -> None:
    change(
        plain / "preprocessor_config.json", do_pad=False, do_reduce_labels=False, processor_class="X", do_sharpen=False
    )
    assert hp.load(plain).card.preprocessing == read("signed:resize=32+32")


def test_a_folder_without_a_processor(plain: Path) -> None:
    (plain / "preprocessor_config.json").unlink()
    with pytest.raises(FileError, match=r"has no preprocessor_config\.json, which says how inputs are scaled; copy it"):
        hp.load(plain)
    assert hp.load(plain, preprocessing="imagenet:resize=32+32").card.preprocessing == read("imagenet:resize=32+32")


def empty(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    empty(folder)


def truncated(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def no_head(folder: Path) -> None:
    state = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def more_labels(folder: Path) -> None:
    change(
        folder / "config.json", id2label={str(k): f"l{k}" for k in range(5)}, label2id={f"l{k}": k for k in range(5)}
    )


def escaping(folder: Path) -> None:
    empty(folder)
    page = {"metadata": {}, "weight_map": {"classifier.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(page))


def deeper(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    extra = {k.replace("layer.1.", "layer.2.").replace("layers.1.", "layers.2."): v.clone() for k, v in state.items()}
    save_file({**state, **extra}, folder / "model.safetensors", {"format": "pt"})


def missing_shard(folder: Path) -> None:
    empty(folder)
    page = {"metadata": {}, "weight_map": {"classifier.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(page))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (empty, r"holds no weights; expected model\.safetensors"),
    "pickle only": (pickled, r"has its weights as pytorch_model\.bin, which may run code .* convert .*save_pretrained"),
    "truncated": (truncated, r"model\.safetensors' is truncated or not a safetensors file"),
    "not safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"), "truncated or not a safe"),
    "head missing": (no_head, r"the weights lack classifier\.bias and 1 more of ViTForImageClassification"),
    "more labels": (more_labels, r"do not fit ViTForImageClassification: classifier.bias has the size \(3,\) in the f"),
    "deeper": (deeper, r"the weights hold vit\.\S* and vit\.\S* and \d+ more, which the ViTForImageClassification of"),
    "shard elsewhere": (escaping, r"is damaged: it names '\.\./outside\.safetensors'"),
    "shard missing": (missing_shard, r"holds no weights; expected model-00001-of-00002\.safetensors"),
    "no json": (lambda f: (f / "config.json").write_text('{"model_type": "vi'), "is truncated or not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "holds a list, expected settings"),
    "unknown type": (lambda f: change(f / "config.json", model_type="nothing"), "not understood by transformers"),
    "no classifier": (lambda f: change(f / "config.json", architectures=["ViTModel"]), "holds ViTModel, expected a cl"),
    "remote code": (
        lambda f: change(f / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.Mine"}),
        "not understood by transformers",
    ),
    "attention from a hub": (
        lambda f: change(f / "config.json", attn_implementation="kernels-community/flash-attn"),
        "would have to be fetched; refused",
    ),
    "network from a hub": (
        lambda f: change(f / "config.json", model_type="timm_wrapper", architecture="hf_hub:someone/mine"),
        "would have to be fetched; refused",
    ),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter; merge it"),
    "quantised": (
        lambda f: change(f / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True}),
        "holds a quantised model|not understood",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOILT)
def test_folders_that_cannot_be_read(plain: Path, kind: str) -> None:
    spoil, message = SPOILT[kind]
    spoil(plain)
    (plain / "mine.py").write_text("raise SystemExit('executed')")
    with pytest.raises(FileError, match=message) as caught:
        hp.load(f"hf:{plain}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_harmless_differences_are_passed_over(plain: Path) -> None:
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        want = hp.load(plain)(x)
        change(plain / "config.json", return_dict=False, architectures="ViTForImageClassification")
        state = load_file(plain / "model.safetensors")
        extra = {"vit.pooler.dense.weight": torch.ones(2, 2), "vit.embeddings.position_ids": torch.ones(2)}
        save_file({**state, **extra}, plain / "model.safetensors", {"format": "pt"})
        torch.testing.assert_close(hp.load(plain)(x), want)


def test_weights_in_several_files(transformers: Any, plain: Path) -> None:
    want = hp.load(plain)
    transformers.ViTForImageClassification.from_pretrained(plain).save_pretrained(plain, max_shard_size="20KB")
    (plain / "model.safetensors").unlink(missing_ok=True)
    assert len(list(plain.glob("model-*.safetensors"))) > 1
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(hp.load(plain)(x), want(x))


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ({"problem_type": "multi_label_classification"}, "label-logits"),
        ({"problem_type": "regression", "num_labels": 2}, "regression"),
        ({"num_labels": 1}, "regression"),
        ({"problem_type": "single_label_classification"}, "logits"),
    ],
)
def test_what_a_model_returns_is_on_the_card(
    transformers: Any, plain: Path, options: dict[str, Any], outputs: str
) -> None:
    vit(transformers, **options).save_pretrained(plain)
    assert hp.load(plain).card.outputs == outputs


def test_sounds_and_videos(transformers: Any, tmp_path: Path) -> None:
    T = transformers
    ast = T.ASTForAudioClassification(T.ASTConfig(**SMALL, max_length=64, num_mel_bins=32, num_labels=4)).eval()
    ast.save_pretrained(tmp_path / "ast")
    T.ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(tmp_path / "ast")
    model, x = hp.load(tmp_path / "ast"), torch.randn(2, 1, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), ast(input_values=x[:, 0]).logits)
    assert isinstance(model.card.preprocessing, SignalPreprocessing)
    assert model.card.preprocessing.mels == 32
    samples = Samples(x, [0, 1], classes=model.card.classes)
    with pytest.warns(HeatproofWarning, match="nothing says that the samples went through the model's preprocessing"):
        hp.evaluate(model, samples)
    hp.evaluate(
        model, Samples(x, [0, 1], classes=model.card.classes, about={"preprocessing": model.card.preprocessing})
    )

    options = {"conv_dim": [8, 8], "conv_stride": [5, 2], "conv_kernel": [10, 3], "num_feat_extract_layers": 2}
    config = T.Wav2Vec2Config(
        **SMALL, **options, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, num_labels=4
    )
    sound = T.Wav2Vec2ForSequenceClassification(config).eval()
    sound.save_pretrained(tmp_path / "sound")
    T.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sound")
    model, x = hp.load(tmp_path / "sound"), torch.randn(2, 1, 400)
    with torch.no_grad():
        torch.testing.assert_close(model(x), sound(input_values=x[:, 0]).logits)
    assert model.card.preprocessing == SignalPreprocessing(rate=16000, normalise="each")

    config = T.VideoMAEConfig(**SMALL, image_size=32, patch_size=8, num_frames=4, num_labels=4)
    video = T.VideoMAEForVideoClassification(config).eval()
    video.save_pretrained(tmp_path / "video")
    square = {"height": 32, "width": 32}
    T.VideoMAEImageProcessor(size={"shortest_edge": 40}, crop_size=square).save_pretrained(tmp_path / "video")
    model, x = hp.load(tmp_path / "video"), torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), video(pixel_values=x.transpose(1, 2)).logits)
    assert model.card.input_shape == (3, 4, 32, 32)


def test_features_that_are_not_handed_over(transformers: Any, tmp_path: Path) -> None:
    T = transformers
    options = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = T.WhisperConfig(**options, **heads, vocab_size=64, pad_token_id=1, bos_token_id=2, eos_token_id=3,
                             decoder_start_token_id=2)  # fmt: skip
    T.WhisperForAudioClassification(config).save_pretrained(tmp_path / "whisper")
    with pytest.raises(FileError, match="WhisperForAudioClassification takes no input_values"):
        hp.load(tmp_path / "whisper", preprocessing="none")


def test_a_text_model_is_refused(transformers: Any, tmp_path: Path) -> None:
    T = transformers
    bert = T.BertForSequenceClassification(T.BertConfig(**SMALL, vocab_size=50))
    bert.save_pretrained(tmp_path / "bert")
    with pytest.raises(FileError, match="holds BertForSequenceClassification, expected a classifier of images, videos"):
        hp.load(tmp_path / "bert")


def test_a_folder_of_timm(transformers: Any, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    page = {
        "architecture": "mobilenetv3_small_050",
        "num_classes": 3,
        "label_names": ["a", "b", "c"],
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "crop_pct": 0.9,
            "interpolation": "bicubic",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(page))
    model, x = hp.load(tmp_path), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), network(x))
    assert model.card.classes == ("a", "b", "c")
    assert model.card.preprocessing == read("signed:resize=71,crop=64,interpolation=bicubic")
    change(tmp_path / "config.json", model_args={"depth": 3})
    with pytest.raises(FileError, match=r"model_args .* not understood"):
        hp.load(tmp_path)


def test_without_transformers(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"need transformers .* pip install 'heatproof\[hf\]'"):
        hp.load(plain)


def test_a_folder_of_hugging_face_from_tiles_to_report(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("cat", "dog", "eel")):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        for i in range(4):
            pixels = RANDOM.integers(0, 80 * (label + 1), (41, 50 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tiles" / name / f"{i}.png")
    words = ["--model", "hf:vit", "--data", "folder:test=0.5", "--path", "tiles"]
    assert main(["evaluate", *words]) == 0
    assert main(["evaluate", *words[:2], "--data", "folder:preprocessing=unit", "--path", "tiles"]) == 2
    assert "the model takes RGB, values in [0, 1], less 0.5" in capsys.readouterr().err


# Bundles of MONAI


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a small DenseNet for volumes."""
    nets = pytest.importorskip("monai.networks.nets")
    options = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "init_features": 4, "growth_rate": 2}
    torch.manual_seed(1)
    network = nets.DenseNet(**options, block_config=(1, 1)).eval()
    root = tmp_path / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    torch.save(network.state_dict(), root / "models" / "model.pt")
    page = {
        "classes": 2,
        "network_def": {"_target_": "DenseNet", **options, "out_channels": "@classes", "block_config": [1, 1]},
        "device": "$torch.device('cuda')",
    }
    (root / "configs" / "inference.json").write_text(json.dumps(page))
    inputs = {"image": {"num_channels": 1, "spatial_shape": [24, 24, 24]}}
    outputs = {"pred": {"channel_def": {"0": "healthy", "1": "ill"}}}
    metadata = {"network_data_format": {"inputs": inputs, "outputs": outputs}}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return root


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_a_bundle_is_a_classifier_with_its_card(bundle: Path) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    network = nets.DenseNet(
        spatial_dims=3, in_channels=1, out_channels=2, init_features=4, growth_rate=2, block_config=(1, 1)
    )
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    x = torch.rand(1, 1, 24, 24, 24)
    for name in (bundle, f"monai:{bundle}"):
        model = hp.load(name)
        with torch.no_grad():
            torch.testing.assert_close(model(x), network.eval()(x))
        assert (model.card.classes, model.card.input_shape) == (("healthy", "ill"), (1, 24, 24, 24))
        assert str(model.card.architecture) == "monai:DenseNet"
    with pytest.raises(InputError):
        hp.evaluate(model, Samples(x, [0], classes=("healthy", "ill", "dead")))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("$import('os').system('touch executed')", "no network_def with _target_"),
        (
            {"_target_": "os.system", "command": "touch executed"},
            "names 'os.system', expected a class of monai.networks",
        ),
        ({"_target_": "subprocess.Popen", "args": "touch executed"}, "names 'subprocess.Popen', expected"),
        ({"_target_": "scripts.net.Mine"}, "names 'scripts.net.Mine', expected a class"),
        ({"_target_": "monai.networks.nets.torch"}, "which is no network of monai.networks.nets"),
        ({"_target_": "Sequence"}, "which is no network of monai"),
        ({"_target_": "NoNet"}, "which is no network of monai"),
        ({"_target_": "DenseNet", "spatial_dims": "$1 + 2"}, "spatial_dims is an expression .* never evaluated"),
        ({"_target_": "DenseNet", "act": {"_target_": "os.system"}}, "names 'os.system'; only plain options"),
        ({"_target_": "DenseNet", "spatial_dims": "@rank"}, "refers to 'rank', not at the top"),
        ({"_target_": "DenseNet", "spatial_dims": "@loop"}, "refers without end"),
        ({"_target_": "DenseNet", "spatial_dims": "@device"}, "is an expression"),
        ({"_target_": "DenseNet", "in_channels": 1}, "DenseNet cannot be built with"),
        ({"_target_": "DenseNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 2}, "do not fit the network"),
    ],
)
def test_bundles_that_are_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    change(bundle / "configs" / "inference.json", network_def=network, loop="@loop")
    with pytest.raises(FileError, match=message) as caught:
        hp.load(f"monai:{bundle}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_bundle_without_weights_or_with_transforms(bundle: Path) -> None:
    transforms = {"_target_": "Compose", "transforms": [{"_target_": "LoadImaged"}, {"_target_": "ScaleIntensityd"}]}
    change(bundle / "configs" / "inference.json", preprocessing=transforms)
    with pytest.warns(HeatproofWarning, match=r"transforms \(LoadImaged, ScaleIntensityd\) are not applied"):
        hp.load(bundle)
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(FileError, match=r"holds no weights; expected models/model\.safetensors or models/model\.pt"):
        hp.load(bundle)
    (bundle / "models" / "model.ts").write_bytes(b"PK")
    with pytest.raises(FileError, match=r"holds models/model\.ts alone, which is a program"):
        hp.load(bundle)
    (bundle / "configs" / "inference.json").unlink()
    with pytest.raises(FileError, match="is missing; a bundle of MONAI says there"):
        hp.load(f"monai:{bundle}")


def test_a_bundle_that_numbers_its_outputs_wrongly(bundle: Path) -> None:
    outputs = {"pred": {"channel_def": {"0": "healthy", "ill": "1"}}}
    change(bundle / "configs" / "metadata.json", network_data_format={"outputs": outputs})
    with pytest.raises(FileError, match="channel_def has the key 'ill', expected the number of an output"):
        hp.load(bundle)


def test_without_monai(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(UsageError, match=r"need monai .* pip install 'heatproof\[monai\]'"):
        hp.load(bundle)


# Checkpoints


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))


class Settings:
    """What a checkpoint's hyper-parameters may hold."""


@pytest.mark.parametrize("prefix", ["", "model.", "net.", "module.", "model._orig_mod.", "a.b.c."])
def test_checkpoints_with_a_prefix(tmp_path: Path, prefix: str) -> None:
    network = small()
    state = {prefix + key: value for key, value in network.state_dict().items()}
    page = {"state_dict": {**state, "loss.weight": torch.ones(2)} if prefix else state, "epoch": 3,
            "hyper_parameters": {"lr": 0.1, "layers": [1, 2]}}  # fmt: skip
    torch.save(page, tmp_path / "last.ckpt")
    for model in (
        resolve_factory(small, weights=tmp_path / "last.ckpt"),
        hp.load(tmp_path / "last.ckpt", factory=small),
    ):
        for key, value in network.state_dict().items():
            torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)
    if prefix:
        save_file(page["state_dict"], tmp_path / "last.safetensors")
        torch.testing.assert_close(
            resolve_factory(small, weights=tmp_path / "last.safetensors").state_dict(), network.state_dict()
        )


def test_a_checkpoint_of_lightning(tmp_path: Path) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = small()

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self.model(batch[0]).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(2, 1, 8, 8)))
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    import warnings

    with warnings.catch_warnings(action="ignore"):
        trainer.fit(module, data)
        trainer.save_checkpoint(tmp_path / "l.ckpt")
    model = resolve_factory(small, weights=tmp_path / "l.ckpt")
    torch.testing.assert_close(model.state_dict(), module.model.state_dict())


def test_checkpoints_that_are_refused(tmp_path: Path) -> None:
    file, state = tmp_path / "c.ckpt", small().state_dict()
    page = {"state_dict": state, "hyper_parameters": Settings(), "pytorch-lightning_version": "2.5"}
    torch.save(page, file)
    with pytest.raises(FileError, match=r"holds a pickled object \(.*Settings.*\), which may run code"):
        fill(small(), file)
    both = {f"{prefix}.{key}": value for prefix in ("model", "ema") for key, value in state.items()}
    torch.save({"state_dict": both}, file)
    with pytest.raises(FileError, match=r"several networks that fit, under 'ema\.', 'model\.'; save one of them alone"):
        fill(small(), file)
    torch.save({"state_dict": {"model.0.weight": torch.ones(2)}}, file)
    with pytest.raises(FileError, match="do not fit the network"):
        fill(small(), file)
    torch.save({"epoch": 3, "optimizer": [1]}, file)
    with pytest.raises(FileError, match="not a plain state dict of tensors; it holds epoch, optimizer"):
        fill(small(), file)
    torch.save({f"model.{k}": v for k, v in state.items()} | {"model.extra": torch.ones(1)}, file)
    with pytest.raises(FileError, match=r"do not fit the network: .*extra"):
        fill(small(), file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(FileError, match="not a plain state dict"):
        fill(small(), file)


def test_modules_need_nothing_until_they_are_asked() -> None:
    assert huggingface.is_folder(Path("nowhere")) is False
    assert bundles.HOME == "monai.networks.nets"
