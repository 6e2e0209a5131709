"""The smallest network of every family (module) of timm: what is right for it, written by hand from the architectures.

The acceptable layers are the last with positions whose gradient is not zero at all of them: before global pooling the
end of the last stage and its norm or activation; behind a class token what enters the last attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from benchmarks.zoo.entries import FIRST, LAST, Attention, Entry, Layout, chain, tokens
from torch import nn

CLASSES = 10


def make(name: str, **options: Any) -> Callable[[], nn.Module]:
    """Builds a network of timm with ten classes."""

    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=CLASSES, **options)

    return build


def net(
    family: str,
    name: str,
    size: int,
    layers: str,
    layout: Layout = FIRST,
    *,
    others: Sequence[tuple[str, Layout]] = (),
    attention: Attention | Literal["none", "open"] = "none",
    fixed: bool = False,
    seconds: int = 300,
    note: str = "",
) -> Entry:
    """An entry; ``fixed`` where the network is built for one size of image, which is then asked for."""
    build = make(name, img_size=size) if fixed else make(name)
    return Entry("timm", family, name, build, (3, size, size), layers, layout, others, attention, "logits", note,
                 seconds)  # fmt: skip


def vit(depth: int, prefix: str = "blocks") -> str:
    """What enters the last attention: its norm, or the block before."""
    return rf"{prefix}\.{depth - 1}\.norm1|{prefix}\.{depth - 2}"


def pooled(depth: int, *more: str, prefix: str = "blocks") -> str:
    """The last block, or the norm behind it, where all tokens are averaged."""
    return "|".join([rf"{prefix}\.{depth - 1}", prefix.replace(".", r"\."), *more])


MEAN = ("all",)
ANY = ("first", "all", "patches")
CLASS = "only the class token is read behind the last attention"

ENTRIES = [
    net("beit", "beit_base_patch16_224", 96, pooled(12, "norm"), tokens(16, 1), fixed=True,
        attention=Attention(tokens(16, 1), 12, ANY)),
    net("byoanet", "halonet_h1", 256, chain("stages.3.2.act", "final_conv"), fixed=True,
        note="blocks with halo attention"),
    net("byobnet", "test_byobnet", 96, chain("stages.3.0.act", "final_conv")),
    net("cait", "cait_xxs24_224", 96, r"blocks_token_only\.[01]\.norm1|blocks\.23|blocks", tokens(16, 1),
        others=[(r"blocks(\.\d+.*)?|pos_drop|patch_embed.*", tokens(16))], fixed=True,
        note="two blocks of class attention read the patches"),
    net("coat", "coat_tiny", 224, r"parallel_blocks\.5\.norm1[234]|cpe[234]@\d+", tokens(8, 1),
        others=[(r"parallel_blocks\.\d\.norm12|cpe2(@\d+)?|norm2|serial_blocks2.*", tokens(8, 1)),
                (r"parallel_blocks\.\d\.norm13|cpe3(@\d+)?|norm3|serial_blocks3.*", tokens(16, 1)),
                (r"parallel_blocks\.\d\.norm14|cpe4(@\d+)?|norm4|serial_blocks4.*", tokens(32, 1))],
        note="the class tokens of three scales are read; the last attention has no softmax over tokens"),
    net("convit", "convit_tiny", 96, vit(12), tokens(16, 1), others=[(r"blocks\.\d(\..*)?", tokens(16)),
        (r"blocks\.10\.norm1", tokens(16, 1))], attention="open", fixed=True, note=CLASS),
    net("convmixer", "convmixer_768_32", 96, chain("blocks.31.3")),
    net("convnext", "test_convnext", 96, chain("stages.3.blocks.1", "norm_pre")),
    net("cpubone", "cpubone_nano", 96, r"head\.in_conv(\.act)?", attention="open"),
    net("crossvit", "crossvit_tiny_240", 240, r"blocks\.2\.fusion\.[01]\.norm1|blocks\.2\.blocks\.[01](\.\d)?", FIRST,
        others=[(r"blocks\.2\.fusion\.0\.norm1", Layout("tokens", prefix=1, grid=(14, 14))),
                (r"blocks\.2\.fusion\.1\.norm1|norm\.0", Layout("tokens", prefix=1, grid=(20, 20))),
                (r"blocks\.\d\.blocks\.0(\.\d(\.norm\d)?)?", Layout("tokens", prefix=1, grid=(20, 20))),
                (r"blocks\.\d\.blocks\.1(\.\d(\.norm\d)?)?|norm\.1", Layout("tokens", prefix=1, grid=(14, 14)))],
        note="two class tokens read the patches of the other branch"),
    net("csatv2", "csatv2", 256, chain("stages.3.6"), attention="open", note="convolutions and attention in turn"),
    net("cspnet", "cs3darknet_focus_s", 96, chain("stages.3.conv_transition.bn.act")),
    net("cspnext", "cspnext_tiny", 96, chain("stages.3.2.final_conv.bn.act")),
    net("davit", "davit_tiny", 96, chain("stages.3.blocks.0.1", "norm_pre")),
    net("deepseek_vit", "deepseek_vit_412m", 56, r"encoder\.blocks\.31|encoder\.norm|encoder", tokens(14),
        others=[("encoder", LAST)], attention=Attention(tokens(14), 32, MEAN), fixed=True, seconds=600),
    net("deit", "deit_tiny_patch16_224", 96, vit(12), tokens(16, 1), attention=Attention(tokens(16, 1), 12),
        fixed=True, note=CLASS),
    net("densenet", "densenet121", 96, chain("features.norm5.act")),
    net("dla", "dla46x_c", 96, chain("level5.root.relu")),
    net("dpn", "dpn48b", 96, chain("features.conv5_bn_ac.bn.act")),
    net("edgenext", "edgenext_xx_small", 96, chain("stages.3.blocks.1", "norm_pre"), note="channel attention"),
    net("efficientformer", "efficientformer_l1", 224, chain("stages.3.blocks.4", "norm"), tokens(32),
        attention=Attention(tokens(32), 1, MEAN, optional=True)),
    net("efficientformer_v2", "efficientformerv2_s0", 224, "norm|" + chain("stages.3.blocks.3"), attention="open"),
    net("efficientnet", "test_efficientnet", 96, r"bn2(\.act)?"),
    net("efficientvim", "efficientvim_m1", 224, r"norm\.3", attention="open",
        note="the other heads read states, no map"),
    net("efficientvit_mit", "efficientvit_b0", 96, r"head\.in_conv(\.act)?", note="linear attention"),
    net("efficientvit_msra", "efficientvit_m0", 224, chain("stages.2.blocks.2"), fixed=True, attention="open"),
    net("eva", "vit_tiny_patch16_dinov3_qkvb", 96, pooled(12, "norm"), tokens(16, 5), fixed=True,
        attention=Attention(tokens(16, 5), 12, ANY), note="a class and four register tokens, averaged over patches"),
    net("fasternet", "fasternet_t0", 96, chain("stages.3.blocks.1")),
    net("fastvit", "fastvit_t8", 96, r"final_conv(\.act)?"),
    net("focalnet", "focalnet_tiny_srf", 96, "norm|" + chain("layers.3.blocks.1")),
    net("gcvit", "gcvit_xxtiny", 224, r"stages(\.3)?|stages\.3\.norm", FIRST,
        others=[(r"stages\.\d\.(norm|blocks.*)", LAST)], fixed=True),
    net("gemma4_vit", "gemma4_vit_167m", 96, r"encoder(\.blocks\.15)?", tokens(16), fixed=True,
        attention=Attention(tokens(16), 16, MEAN)),
    net("ghostnet", "ghostnet_050", 96, chain("blocks.9.0.bn1.act")),
    net("hardcorenas", "hardcorenas_b", 96, chain("blocks.6.0.bn1.act")),
    net("hgnet", "hgnetv2_b0", 96, chain("stages.3.blocks.0")),
    net("hiera", "hiera_tiny_224", 224, r"blocks\.11", tokens(32), fixed=True,
        note="tokens of earlier stages are ordered by mask unit, those of the last as the image"),
    net("hieradet_sam2", "sam2_hiera_tiny", 128, r"blocks\.11", LAST),
    net("hrnet", "hrnet_w18_small", 96, chain("final_layer.2")),
    net("iformer", "iformer_t", 96, chain("stages.3.blocks.5.mixer"), attention="open"),
    net("inception_next", "inception_next_atto", 96, chain("stages.3.blocks.1")),
    net("inception_resnet_v2", "inception_resnet_v2", 160, chain("conv2d_7b.bn.act")),
    net("inception_v3", "inception_v3", 160, "Mixed_7c"),
    net("inception_v4", "inception_v4", 160, chain("features.21")),
    net("lcnetv2", "lcnetv2_small", 96, chain("stages.3.1.pw_conv.bn.act")),
    net("levit", "levit_128s", 224, chain("stages.2.blocks.3"), Layout("tokens", grid=(4, 4)),
        others=[(r"stages\.0(\..*)?", Layout("tokens", grid=(14, 14))),
                (r"stages\.1(\..*)?", Layout("tokens", grid=(7, 7)))], fixed=True, attention="open"),
    net("lowformer", "lowformer_b0", 96, r"in_conv(\.act)?", attention="open"),
    net("mambaout", "test_mambaout", 96, chain("stages.3.blocks.0"), LAST),
    net("maxxvit", "test_coatnet", 160, "norm|" + chain("stages.3.blocks.0"), attention="open", fixed=True),
    net("metaformer", "poolformerv2_s12", 96, chain("stages.3.blocks.1")),
    net("mlp_mixer", "gmlp_ti16_224", 96, "norm|" + chain("blocks.29"), tokens(16), fixed=True),
    net("mobilenetv3", "lcnet_035", 96, chain("blocks.5.1.bn2.act")),
    net("mobilenetv5", "mobilenetv5_base", 192, r"msfa(\.norm)?", seconds=600,
        note="three scales are fused at 16 x 16 positions"),
    net("mobilevit", "mobilevit_xxs", 96, chain("final_conv.bn.act")),
    net("mvitv2", "mvitv2_tiny", 224, r"norm|stages\.3(\.blocks\.1)?", tokens(32), fixed=True),
    net("naflexvit", "naflexvit_base_patch16_parfac_gap", 96, pooled(12, "norm"), tokens(16, 4), fixed=True,
        attention=Attention(tokens(16, 4), 12, ANY), note="four register tokens, averaged over patches"),
    net("nasnet", "nasnetalarge", 128, "act|cell_17", seconds=600),
    net("nest", "nest_tiny", 224, "norm|" + chain("levels.2"), FIRST, others=[("norm", LAST)], fixed=True,
        attention="open", note="the last level is one block of attention over all positions"),
    net("nextvit", "nextvit_small", 96, "norm|" + chain("stages.3.blocks.2")),
    net("nfnet", "test_nfnet", 96, "final_act|final_conv"),
    net("pit", "pit_ti_224", 224, vit(4, r"transformers\.2\.blocks"), Layout("tokens", prefix=1, grid=(7, 7)),
        fixed=True, attention="open", note=CLASS),
    net("pnasnet", "pnasnet5large", 128, "act|cell_11", seconds=600),
    net("pvt_v2", "pvt_v2_b0", 96, r"stages(\.3)?|stages\.3\.norm|stages\.3\.blocks\.1", FIRST,
        others=[(r"stages\.3\.(norm|blocks.*)", tokens(32))]),
    net("qwen3_vit", "qwen3_vit_88m", 96, r"encoder|encoder\.blocks\.11", tokens(16), others=[("encoder", LAST)],
        fixed=True, attention=Attention(tokens(16), 12, MEAN)),
    net("rdnet", "rdnet_tiny", 96, chain("dense_stages.6.2", "norm_pre")),
    net("regnet", "regnetx_002", 96, chain("s4.b7.act3", "final_conv")),
    net("repghost", "repghostnet_050", 96, chain("blocks.9.0.bn1.act")),
    net("repvit", "repvit_m1", 96, chain("stages.3.blocks.1", r"stages\.3\.blocks\.1\.channel_mixer")),
    net("res2net", "res2next50", 96, chain("layer4.2", r"layer4\.2\.relu@\d+")),
    net("resnest", "resnest14d", 96, chain("layer4.0.act3")),
    net("resnet", "test_resnet", 96, chain("layer4.0.act2")),
    net("resnetv2", "resnetv2_18", 96, r"norm(\.act)?"),
    net("rexnet", "rexnet_100", 96, chain("features.16.bn.act")),
    net("selecsls", "selecsls42", 128, chain("head.3.2")),
    net("senet", "legacy_seresnet18", 96, chain("layer4.1", r"layer4\.1\.relu@\d+")),
    net("sequencer", "sequencer2d_s", 224, "norm|" + chain("stages.3.blocks.2"), LAST, fixed=True, seconds=600),
    net("shvit", "shvit_s1", 160, chain("stages.2.blocks.4.ffn"), attention="open"),
    net("sknet", "skresnet18", 96, chain("layer4.1.act")),
    net("starnet", "starnet_s050", 96, "norm"),
    net("swiftformer", "swiftformer_xs", 96, "norm"),
    net("swin_transformer", "swin_tiny_patch4_window7_224", 224, "norm|" + chain("layers.3.blocks.1"), LAST,
        others=[(r"layers\.3\.blocks\.\d\.(norm2|mlp.*)", tokens(32))], fixed=True),
    net("swin_transformer_v2", "swinv2_tiny_window8_256", 128, "norm|" + chain("layers.3.blocks.1"), LAST,
        others=[(r"layers\.3\.blocks\.\d\.(norm2|mlp.*)", tokens(32))], fixed=True),
    net("swin_transformer_v2_cr", "swinv2_cr_tiny_224", 224, r"stages(\.3)?|stages\.3\.blocks\.1(\.norm3)?", FIRST,
        others=[(r"stages\.3\.blocks\.\d", LAST), (r"stages\.3\.blocks\.\d\.(norm[23]|mlp.*)", tokens(32))],
        fixed=True),
    net("tiny_vit", "tiny_vit_5m_224", 224, r"stages(\.3)?|stages\.3\.blocks(\.1)?", FIRST,
        others=[(r"stages\.3\.blocks(\.\d)?", LAST), (r"stages\.3\.blocks\.\d\.(mlp.*)", tokens(32))]),
    net("tnt", "tnt_s_legacy_patch16_224", 96, r"blocks\.11\.norm_out", tokens(16, 1), fixed=True,
        attention=Attention(tokens(16, 1), 12, ("first",), optional=True), note=CLASS),
    net("tresnet", "tresnet_m", 96, chain("body.layer4.2.act")),
    net("twins", "twins_svt_small", 224, r"norm|blocks\.3\.3|blocks\.3", tokens(32), fixed=True),
    net("vgg", "vgg11", 224, r"features|features\.(19|20)", seconds=600),
    net("visformer", "visformer_tiny", 224, "norm|" + chain("stage3.3"), fixed=True, attention="open"),
    net("vision_transformer", "test_vit", 96, vit(6), tokens(16, 1), attention=Attention(tokens(16, 1), 6),
        fixed=True, note=CLASS),
    net("vision_transformer_hybrid", "vit_tiny_r_s16_p8_224", 224, vit(12), tokens(32, 1),
        attention=Attention(tokens(32, 1), 12), fixed=True, note=CLASS),
    net("vision_transformer_relpos", "test_vit_relpos", 96, pooled(9, "norm"), tokens(16), fixed=True,
        attention=Attention(tokens(16), 9, MEAN)),
    net("vision_transformer_sam", "samvit_base_patch16_224", 96, "neck|" + chain("blocks.11"), FIRST,
        others=[(r"blocks(\.\d+)?", LAST)], fixed=True),
    net("vitamin", "vitamin_small_224", 128, pooled(14, "norm"), tokens(16), fixed=True,
        attention=Attention(tokens(16), 14, MEAN, optional=True)),
    net("volo", "volo_d1_224", 96, r"norm|post_network\.[01](\.norm1)?|network\.4(\.\d+)?", tokens(16, 1),
        others=[(r"network\.4(\.\d+.*)?", LAST), ("aux_head", tokens(16))], fixed=True,
        note="an auxiliary head reads the largest of all patches, class attention the rest"),
    net("vovnet", "ese_vovnet19b_slim_dw", 96, chain("stages.3.blocks.0.attn")),
    net("xception", "legacy_xception", 128, "act4|bn4"),
    net("xception_aligned", "xception41p", 128, "act|" + chain("blocks.12")),
    net("xcit", "xcit_nano_12_p16_224", 96, r"cls_attn_blocks\.1\.norm1|cls_attn_blocks\.0|blocks\.11", tokens(16, 1),
        others=[(r"blocks\.\d+(\.norm\d)?", tokens(16))], fixed=True,
        note="attention over channels, then two blocks of class attention read the patches"),
]  # fmt: skip
