"""Networks for tissue and planted tasks: sizes, names, and what the rest of the package relies on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import heatproof as hp
from heatproof import train
from heatproof.data import folder
from heatproof.data.folder import samples
from heatproof.data.hmt import FOLDERS
from heatproof.errors import InputError, UnknownName, UsageError
from heatproof.models.card import card_of
from heatproof.models.folder import load
from heatproof.nets import build, nets, shipped, summary, weights
from heatproof.preprocessing import squashed
from heatproof.records import Samples
from heatproof.training import Recipe
from heatproof.training.batches import Shuffled, generator
from heatproof.training.fit import fit
from heatproof.training.images import STAINS, augmentations, mix, stain, warp
from heatproof.training.task import hits

NETS = {"vgg-7": (3, 32, 32), "tissue-resnet": (3, 32, 32), "small-cnn:rank=1": (1, 16), "small-cnn": (1, 8, 8, 8)}


def multiply_adds(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Counted layer by layer from the outputs' sizes."""
    total = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += layer.weight[0].numel() * out[0].numel()

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return total


def test_vgg_7_is_the_course_network() -> None:
    table = summary(build("vgg-7"), (3, 224, 224))
    assert [(row.layer, row.parameters) for row in table.rows] == [
        ("conv2d", 896),
        ("conv2d_1", 9_248),
        ("max_pooling2d", 0),
        ("conv2d_2", 18_496),
        ("conv2d_3", 36_928),
        ("max_pooling2d_1", 0),
        ("global_average_pooling2d", 0),
        ("dense", 520),
    ]
    assert table.parameters == 66_088
    assert table.rows[4].shape == (64, 112, 112)


def test_tissue_resnet_is_small() -> None:
    model = build("tissue-resnet")
    assert sum(p.numel() for p in model.parameters()) == 775_320
    assert multiply_adds(model, (3, 128, 128)) * 2 < 0.3e9
    assert summary(model, (3, 128, 128)).rows[8].shape == (128, 8, 8)


@pytest.mark.parametrize(("spec", "shape"), NETS.items())
class TestEvery:
    def test_traces_and_names_its_layer(self, spec: str, shape: tuple[int, ...]) -> None:
        model = build(spec).eval()
        layer = nets[spec.partition(":")[0]].layer
        assert layer in dict(model.named_modules())
        x = torch.rand(2, *shape)
        torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))

    def test_samples_do_not_touch_each_other(self, spec: str, shape: tuple[int, ...]) -> None:
        model, x = build(spec).eval(), torch.rand(5, *shape)
        singles = torch.cat([model(one[None]) for one in x])
        torch.testing.assert_close(model(x), singles)

    def test_no_layer_is_used_twice(self, spec: str, shape: tuple[int, ...]) -> None:
        model, calls = build(spec).eval(), []
        leaves = [m for m in model.modules() if not list(m.children())]
        for leaf in leaves:
            leaf.register_forward_hook(lambda module, *_: calls.append(module))
        model(torch.rand(1, *shape))
        assert len(calls) == len(set(calls)) == len(leaves)

    def test_learns(self, spec: str, shape: tuple[int, ...]) -> None:
        model, x = build(spec), torch.rand(4, *shape)
        nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())

    def test_options(self, spec: str, shape: tuple[int, ...]) -> None:
        more = build(f"{spec}{',' if ':' in spec else ':'}classes=5,channels=2").eval()
        assert more(torch.rand(1, 2, *shape[1:])).shape == (1, 5)


@pytest.mark.parametrize(
    "spec", ["vgg-7:classes=0", "tissue-resnet:depth=2+2", "tissue-resnet:filters=0+1+1+1", "small-cnn:rank=4"]
)
def test_impossible_options_are_refused(spec: str) -> None:
    with pytest.raises(UsageError):
        build(spec)


class TestAugmentation:
    def test_no_change_is_a_flip_at_most(self) -> None:
        x = torch.rand(1, 3, 6, 8)
        whole = [x, x.flip(2), x.flip(3), x.flip(2, 3)]
        out = [warp(x, generator(seed, "a")) for seed in range(24)]
        flips = [next(i for i, w in enumerate(whole) if torch.allclose(w, o, atol=1e-5)) for o in out]
        assert set(flips) == {0, 1, 2, 3}

    def test_quarter_turn_and_size(self) -> None:
        x = torch.zeros(64, 1, 9, 9)
        x[:, :, 0, 4] = 1
        out = warp(x, generator(0, "a"), turn=180.0, size=18)
        assert out.shape == (64, 1, 18, 18)
        where = out[:, 0].flatten(1).argmax(1)
        centre = torch.stack([where // 18, where % 18], dim=1) - 8.5
        assert float(centre.double().norm(dim=1).mean()) == pytest.approx(8.5, abs=0.8)
        assert float(centre.double().mean(0).norm()) < 2

    def test_stain_leaves_white_white_and_unit_scale_unchanged(self) -> None:
        x = torch.rand(3, 3, 4, 4)
        torch.testing.assert_close(stain(x, generator(0, "a"), 0.0, 0.0).clamp(0, 1), x, atol=4e-3, rtol=0)
        white = torch.ones(2, 3, 2, 2)
        torch.testing.assert_close(stain(white, generator(0, "a"), 0.5, 0.0), white)
        grey = torch.rand(2, 1, 3, 3)
        assert stain(grey, generator(0, "a"), 0.5, 0.1) is grey

    def test_stain_scales_one_stain_alone(self) -> None:
        eosin = F.normalize(torch.tensor(STAINS), dim=1)[1]
        x = (torch.exp(-0.7 * eosin) - 1 / 255) / (254 / 255)
        out = stain(x.reshape(1, 3, 1, 1), generator(3, "a"), 0.3, 0.0)
        density = -out.flatten().log()
        torch.testing.assert_close(density / density.norm(), eosin, atol=1e-4, rtol=0)
        assert abs(float(density.norm()) - 0.7) > 1e-3

    @pytest.mark.parametrize("seed", range(12))
    def test_mixed_targets_tell_the_share_of_pixels(self, seed: int) -> None:
        value = torch.tensor([0.0, 1.0, 2.0, 3.0])
        x, targets = value[:, None, None, None].expand(4, 1, 40, 40), torch.eye(4)
        mixed, shares = mix(x, targets, generator(seed, "a"), 1.0)
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), shares @ value, atol=1e-4, rtol=0)
        torch.testing.assert_close(shares.sum(1), torch.ones(4))

    def test_no_mixing(self) -> None:
        x, targets = torch.rand(4, 1, 2, 2), torch.eye(4)
        assert mix(x, targets, generator(0, "a"), 0.0)[0] is x

    @pytest.mark.parametrize("name", augmentations)
    def test_stays_in_range_and_follows_its_seed(self, name: str) -> None:
        x = torch.rand(5, 3, 16, 16)
        first, again, other = (augmentations[name](x, generator(seed, "a")) for seed in (0, 0, 1))
        assert first.shape == x.shape
        assert float(first.min()) >= 0
        assert float(first.max()) <= 1
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        assert not torch.equal(first, other)


def test_recipes_train_on_images_read_lazily(tmp_path: Path) -> None:
    for label, colour in enumerate(("red", "blue")):
        for i in range(6):
            path = tmp_path / colour / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (20, 20), (200 - 180 * label, i, 20 + 180 * label)).save(path)
    splits = folder(tmp_path, size=16)
    small = "tissue-resnet:filters=4+4+8,depth=1+1"
    for recipe in ("hmt:epochs=1,batch=4", "hmt-course:epochs=1,batch=4"):
        model = train(splits, recipe=recipe, net=small, quiet=True)
        assert model(splits.test.x[0:2]).shape == (2, 2)


TINY = Recipe("tiny", epochs=5, batch=8, learning_rate=0.01, optimiser="sgd")


def blobs() -> Samples:
    return hp.data.synthetic(rank=2, samples=40, size=12).train


def test_batches_are_blended_except_in_the_last_fifth() -> None:
    samples, recipe = blobs(), replace(TINY, mixed=1.0)
    for epoch in range(5):
        batches = Shuffled(samples, recipe, 0, lambda epoch=epoch: epoch)
        assert all(y.is_floating_point() == (epoch < 4) for _, y in batches)
    assert recipe.mixing(3) == 1
    labels = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    assert float(hits(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), labels)) == 0.5


def test_blending_refuses_signals() -> None:
    with pytest.raises(InputError, match="blending"):
        train("synthetic-1d:samples=20", recipe=replace(TINY, mixed=0.5), net="small-cnn", quiet=True)


def trained(recipe: Recipe) -> torch.Tensor:
    net = build("small-cnn:rank=2")
    before = [p.clone() for p in net.parameters()]
    fitted = fit(net, blobs(), recipe).net
    assert all(p.is_contiguous() and p.dtype == torch.float32 for p in fitted.parameters())
    return torch.cat([(p - b).detach().flatten() for p, b in zip(fitted.parameters(), before, strict=True)])


def test_clip_bounds_every_step() -> None:
    torch.manual_seed(0)
    recipe = replace(TINY, epochs=1, batch=64, clip=0.01, learning_rate=1.0)
    assert float(trained(recipe).norm()) == pytest.approx(0.01, rel=1e-3)


def test_half_precision_is_another_road_to_nearly_the_same_place() -> None:
    changes = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        changes.append(trained(replace(TINY, precision=precision)))
    assert not torch.equal(*changes)
    assert float((changes[0] - changes[1]).norm() / changes[0].norm()) < 0.1


def test_small_cnn_takes_its_rank_from_the_data() -> None:
    model = train("synthetic-2d:samples=20,size=12", recipe="fast:epochs=1", net="small-cnn", quiet=True)
    assert card_of(model).architecture.kwargs == {"rank": 2}


def test_image_recipes_refuse_signals() -> None:
    with pytest.raises(InputError, match="is for images"):
        train("synthetic-1d:samples=20", recipe="hmt:epochs=1", net="small-cnn", quiet=True)


class TestShipped:
    @pytest.mark.parametrize(("name", "command", "side"), [("tissue-resnet", "train", 128), ("vgg-7", "vgg", 224)])
    def test_comes_with_card_and_licence(self, name: str, command: str, side: int) -> None:
        folder_ = weights(name)
        assert name in shipped()
        assert sum(path.stat().st_size for path in folder_.iterdir()) <= 5_000_000
        page = (folder_ / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert f"benchmarks/hmt.py {command}" in page
        assert "CC BY 4.0" in page
        card = card_of(load(folder_))
        assert card.input_shape == (3, side, side)
        assert card.classes[0] == "TUMOR"
        with pytest.raises(UnknownName, match="shipped network"):
            weights("tissue")

    @pytest.mark.parametrize("name", ["tissue-resnet"])  # vgg-7 would take a minute
    def test_is_as_good_on_the_test_tiles_as_its_card_says(self, shared: Path, name: str) -> None:
        if not (shared / "data" / "hmt").is_dir():
            pytest.skip("needs the HMT tiles in the shared data folder")
        model = load(weights(name))
        test = samples(
            shared / "data" / "hmt" / "test", tuple(FOLDERS), squashed(model.card.input_shape[1:]), strict=True
        )
        with torch.inference_mode():
            hits = sum(
                int((model(test.x[i : i + 31]).argmax(1) == test.y[i : i + 31]).sum()) for i in range(0, len(test), 31)
            )
        assert hits / len(test) == pytest.approx(model.card.metrics["test_accuracy"], abs=0.003)
