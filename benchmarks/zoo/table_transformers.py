"""Image and audio classifiers of Hugging Face from small random configurations: what is right, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from benchmarks.zoo.entries import FIRST, Attention, Entry, Layout, tokens
from torch import Tensor, nn

CLASSES = 5


class NoChannel(nn.Module):
    """A network that takes inputs without a channel axis, for inputs with one channel."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network(x[:, 0])


def make(name: str, config: str, wrapped: bool, options: dict[str, Any]) -> Callable[[], nn.Module]:
    """Builds a classifier of transformers from its configuration."""

    def build() -> nn.Module:
        import transformers

        transformers.logging.set_verbosity_error()
        network = getattr(transformers, name)(getattr(transformers, config)(num_labels=CLASSES, **options))
        return NoChannel(network) if wrapped else network

    return build


def net(
    family: str,
    shape: tuple[int, ...],
    layers: str,
    layout: Layout = FIRST,
    *,
    others: Sequence[tuple[str, Layout]] = (),
    attention: Attention | Literal["none", "open"] = "none",
    task: str = "ForImageClassification",
    wrapped: bool = False,
    note: str = "",
    **options: Any,
) -> Entry:
    """An entry for FAMILY + task."""
    build = make(family + task, family + "Config", wrapped, options)
    return Entry("transformers", family.lower(), family + task, build, shape, layers, layout, others, attention,
                 "logits", note)  # fmt: skip


IMAGE = (3, 64, 64)
SMALL: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
VIT = {**SMALL, "image_size": 64, "patch_size": 8}
STAGES: dict[str, Any] = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
HEADS = {"num_attention_heads": [1, 2, 4, 6]}
SWIN: dict[str, Any] = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1, 2], "num_heads": [1, 2, 4],
                        "window_size": 4}  # fmt: skip
READ = "only the class token is read behind the last attention"
MEAN, PATCHES, HALVES, OTHERS = ("all",), ("patches",), ("halves",), ("others",)
WAVES = Layout("tokens", grid=(12,))  # 4000 samples through seven convolutions, 320 apart
FRAMES = Layout("tokens", prefix=2, grid=(12, 4), swapped=True)  # frequencies run slower than times
SPEECH: dict[str, Any] = {**SMALL, "conv_dim": [32] * 7, "num_conv_pos_embeddings": 16,
                          "num_conv_pos_embedding_groups": 4, "classifier_proj_size": 32}  # fmt: skip


def speech(family: str, base: str, **options: Any) -> Entry:
    """A classifier of waveforms, averaged over time."""
    attention = Attention(WAVES, 3, MEAN, optional=family == "WavLM")
    return net(family, (1, 4000), rf"network\.(projector|{base}\.encoder\.layers\.2(\.final_layer_norm)?)", WAVES,
               attention=attention, task="ForSequenceClassification", wrapped=True,
               **{**SPEECH, **options})  # fmt: skip


ENTRIES = [
    net("ViT", IMAGE, r"vit\.layers\.(2\.layernorm_before|1)", tokens(8, 1), attention=Attention(tokens(8, 1), 3),
        note=READ, **VIT),
    net("DeiT", IMAGE, r"deit\.layers\.(2\.layernorm_before|1)", tokens(8, 2), attention=Attention(tokens(8, 2), 3),
        note="a class and a distillation token, of which the first is read", **VIT),
    net("Beit", IMAGE, r"beit\.(layernorm|layers\.2)", tokens(8, 1), attention=Attention(tokens(8, 1), 3, PATCHES),
        note="averaged over the patches", **VIT),
    net("Data2VecVision", IMAGE, r"data2vec_vision\.(layernorm|encoder\.layer\.2)", tokens(8, 1),
        attention=Attention(tokens(8, 1), 3, PATCHES), note="averaged over the patches", **VIT),
    net("Dinov2", IMAGE, r"dinov2\.(layernorm|encoder\.layer\.2)", tokens(8, 1),
        attention=Attention(tokens(8, 1), 3, HALVES), note="class token and mean of the patches are read", **VIT),
    net("Dinov2WithRegisters", IMAGE, r"dinov2_with_registers\.(layernorm|encoder\.layer\.2)", tokens(8, 5),
        attention=Attention(tokens(8, 5), 3, HALVES), note="a class and four register tokens", **VIT),
    net("ViTMSN", IMAGE, r"vit\.layers\.(2\.layernorm_before|1)", tokens(8, 1),
        attention=Attention(tokens(8, 1), 3), note=READ, **VIT),
    net("IJepa", IMAGE, r"ijepa\.(layernorm|layers\.2)", tokens(8), attention=Attention(tokens(8), 3, MEAN), **VIT),
    net("Siglip", IMAGE, r"vision_model\.(post_layernorm|encoder(\.layers\.2)?)", tokens(8),
        attention=Attention(tokens(8), 3, MEAN, optional=True), vision_config=VIT,
        note="averaged over the patches; a pooling head runs and is not read"),
    net("CLIP", IMAGE, r"vision_model\.encoder(\.layers\.2)?", tokens(8, 1),
        attention=Attention(tokens(8, 1), 3, PATCHES), note="averaged over the patches", vision_config=VIT),
    net("Swin", IMAGE, r"swin\.(layernorm|encoder\.layers\.2(\.blocks\.1)?)", tokens(16), **SWIN),
    net("Swinv2", IMAGE, r"swinv2\.(layernorm|encoder\.layers\.2(\.blocks\.1)?)", tokens(16), **SWIN),
    net("ConvNext", (3, 96, 96), r"convnext\.encoder\.stages\.3(\.layers\.0)?", **STAGES),
    net("ConvNextV2", (3, 96, 96), r"convnextv2\.encoder\.stages\.3(\.layers\.0)?", **STAGES),
    net("ResNet", (3, 96, 96), r"resnet\.encoder\.stages\.3(\.layers\.0(\.activation)?)?", embedding_size=16, **STAGES),
    net("RegNet", (3, 96, 96), r"regnet\.encoder\.stages\.3(\.layers(\.0(\.activation)?)?)?", embedding_size=16,
        groups_width=8, **STAGES),
    net("MobileViT", (3, 128, 128), r"mobilevit\.conv_1x1_exp(\.activation)?", image_size=128,
        hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 64],
        note="attention over the patches of every place in a patch"),
    net("MobileViTV2", (3, 128, 128), r"mobilevitv2\.encoder\.layer\.4(\.conv_projection(\.normalization)?)?",
        image_size=128, width_multiplier=0.5, note="linear attention"),
    net("Levit", (3, 192, 192), r"levit\.encoder\.stages\.2(\.layers\.1)?", Layout("tokens", grid=(3, 3)),
        attention="open", image_size=192, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], depths=[1, 1, 1],
        key_dim=[8, 8, 8]),
    net("Cvt", (3, 64, 64), r"cvt\.encoder\.stages\.2\.layers\.(9\.layernorm_before|8)", tokens(16, 1),
        attention="open", note=READ),
    net("Pvt", IMAGE, r"pvt\.encoder\.block\.3\.0\.layer_norm_1", tokens(32, 1), image_size=64, note=READ,
        **STAGES, **HEADS),
    net("PvtV2", (3, 96, 96), r"pvt_v2\.encoder(\.layers\.3\.(layer_norm|blocks\.0))?", tokens(32),
        others=[(r"pvt_v2\.encoder", FIRST)], image_size=96,
        **STAGES, **HEADS),
    net("Segformer", (3, 96, 96), r"segformer\.stages\.3(\.layer_norm|\.blocks\.0)?", tokens(32),
        others=[(r"segformer\.stages\.\d", FIRST)], **STAGES, **HEADS),
    net("PoolFormer", (3, 96, 96), r"norm|poolformer\.encoder\.block\.3\.0", **STAGES),
    net("EfficientNet", (3, 96, 96), r"efficientnet\.encoder\.top_(activation|bn)", image_size=96,
        width_coefficient=0.5, depth_coefficient=0.3, hidden_dim=640),
    net("MobileNetV1", (3, 96, 96), r"mobilenet_v1\.layer\.25(\.activation)?", image_size=96, depth_multiplier=0.25),
    net("MobileNetV2", (3, 96, 96), r"mobilenet_v2\.conv_1x1(\.activation)?", image_size=96, depth_multiplier=0.25),
    net("FocalNet", IMAGE, r"focalnet\.(layernorm|encoder\.stages\.2(\.layers\.1)?)", tokens(16), image_size=64,
        embed_dim=16, depths=[1, 1, 2], focal_levels=[2, 2, 2], focal_windows=[3, 3, 3]),
    net("Hiera", IMAGE, r"hiera\.encoder\.stages\.2(\.layers\.1)?", tokens(16), image_size=[64, 64], patch_size=[7, 7],
        patch_stride=[4, 4], embed_dim=16, depths=[1, 1, 2], num_heads=[1, 2, 4], num_query_pool=2,
        masked_unit_size=[4, 4], note="tokens of earlier stages are ordered by mask unit"),
    net("HGNetV2", (3, 96, 96), r"encoder\.stages\.3(\.blocks(\.0(\.aggregation(\.1(\.activation)?)?)?)?)?"),
    net("SwiftFormer", (3, 96, 96), "norm", image_size=96, embed_dims=[16, 24, 32, 48], depths=[1, 1, 1, 1]),
    net("AST", (1, 128, 48), r"network\.audio_spectrogram_transformer\.layers\.(2\.layernorm_before|1)", FRAMES,
        attention=Attention(FRAMES, 3, OTHERS), task="ForAudioClassification", wrapped=True, max_length=128,
        num_mel_bins=48, patch_size=16, frequency_stride=10, time_stride=10,
        note="patches that overlap, of a transposed input; two tokens are read", **SMALL),
    net("Whisper", (80, 200), r"projector|encoder\.layer_norm|encoder\.layers\.2", tokens(2),
        attention=Attention(tokens(2), 3, MEAN), task="ForAudioClassification", d_model=48, encoder_layers=3,
        encoder_attention_heads=3, encoder_ffn_dim=96, max_source_positions=100, decoder_layers=1,
        decoder_attention_heads=3, decoder_ffn_dim=96, num_mel_bins=80),
    speech("Wav2Vec2", "wav2vec2"),
    speech("Hubert", "hubert"),
    speech("UniSpeech", "unispeech"),
    speech("WavLM", "wavlm"),
    net("SEW", (1, 4000), r"network\.(projector|sew\.encoder\.upsample)", WAVES,
        others=[(r"network\.sew\.encoder\.(layers.*|upsample\.activation)", Layout("tokens", grid=(6,)))],
        attention=Attention(Layout("tokens", grid=(6,)), 3, MEAN), task="ForSequenceClassification", wrapped=True,
        note="attention at half the steps", **{**SPEECH, "conv_dim": (32,) * 13}),
]  # fmt: skip
