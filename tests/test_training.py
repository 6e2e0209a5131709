"""Recipes, batches, and trainings that are seeded, resumable, silent and harmless to the caller's state."""

from __future__ import annotations

import json
import logging
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import heatproof as hp
from heatproof.errors import FileError, FolderInUse, HeatproofError, InputError, Interrupted, UnknownName, UsageError
from heatproof.records import Samples, Splits
from heatproof.training import Progress, Recipe, history_of, read_history, recipes, resolve
from heatproof.training.batches import InOrder, Shuffled, Stretches, augment, generator, hold_out
from heatproof.training.callbacks import strips
from heatproof.training.fit import fit
from heatproof.training.task import averaging

TINY = Recipe("tiny", 3, 16, 0.01, schedule="one-cycle", weight_decay=0.01, shift=2, average=0.9, validation=0.25)


@pytest.fixture(scope="module")
def signals() -> Splits:
    return hp.data.mnist1d(samples=100)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_recipes_are_registered_and_resolve() -> None:
    assert {"fast", "paper", "step-decay"} <= set(recipes)
    assert resolve("paper") == Recipe("paper", 200, 32, 0.01, optimiser="sgd", l2=5e-4)
    assert resolve("fast:epochs=7,batch=32").batch == 32
    assert resolve("fast:epochs=7", epochs=2).epochs == 2
    assert resolve(TINY) is TINY


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch": 0},
        {"learning_rate": math.nan},
        {"validation": 1.0},
        {"average": 1.0},
        {"mixed": 1.5},
        {"clip": -1.0},
        {"patience": 8, "validation": 0.0},
        {"keep": "best", "validation": 0.0},
    ],
)
def test_recipes_refuse_what_makes_no_sense(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        replace(TINY, **change)


def test_unknown_recipes_and_options() -> None:
    with pytest.raises(UnknownName, match="fast"):
        resolve("fats")
    with pytest.raises(UnknownName, match="epochs"):
        resolve("fast:epoch=3")


def test_step_decay_halves_every_fifteen_epochs() -> None:
    rates = [resolve("step-decay").rate(0, 1, epoch) for epoch in range(60)]
    assert rates == [1e-3 * 0.5 ** (epoch // 15) for epoch in range(60)]


def test_one_cycle_rises_then_falls_and_peaks_at_the_rate() -> None:
    rates = [TINY.rate(step, 100, 0) for step in range(100)]
    peak = rates.index(max(rates))
    assert peak == 30
    assert rates[peak] == pytest.approx(0.01)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 1e-4


@given(st.integers(1, 40), st.integers(1, 12))
def test_an_epoch_visits_every_sample_once(count: int, size: int) -> None:
    x = torch.arange(float(count)).reshape(count, 1, 1).expand(count, 1, 4)
    samples = Samples(x, torch.zeros(count, dtype=torch.int64), classes=("a",))
    batches = list(Shuffled(samples, replace(TINY, batch=size, shift=0), 0, lambda: 0))
    seen = [int(v) for x, _ in batches for v in x[:, 0, 0]]
    assert len(batches) == len(Shuffled(samples, replace(TINY, batch=size), 0, lambda: 0))
    assert len(seen) == len(set(seen))
    assert len(seen) >= count - 1
    assert size == 1 or count % size == 1 or len(seen) == count


def test_epochs_differ_and_repeat_by_seed(signals: Splits) -> None:
    def first(seed: int, epoch: int) -> torch.Tensor:
        return next(iter(Shuffled(signals.train, TINY, seed, lambda: epoch)))[0]

    torch.testing.assert_close(first(0, 1), first(0, 1), rtol=0, atol=0)
    assert not first(0, 0).equal(first(0, 1))
    assert not first(0, 0).equal(first(1, 0))


def test_shifts_are_circular_and_bounded_on_every_axis() -> None:
    x = torch.zeros(200, 2, 7, 9)
    x[:, :, 3, 4] = 1
    moved = augment(x, replace(TINY, shift=2), generator(0, "test"))
    spots = moved[:, 0].nonzero()[:, 1:] - torch.tensor([3, 4])
    assert len(spots) == 200
    assert set(spots.flatten().tolist()) == {-2, -1, 0, 1, 2}
    torch.testing.assert_close(moved[:, 0], moved[:, 1], rtol=0, atol=0)


def test_scale_and_noise_have_the_asked_size() -> None:
    x = torch.ones(4000, 1, 5)
    scaled = augment(x, replace(TINY, shift=0, scale=0.4), generator(0, "test"))
    assert (scaled - scaled[:, :, :1]).abs().max() == 0
    assert 0.8 <= float(scaled.min()) < 0.81
    assert 1.19 < float(scaled.max()) <= 1.2
    noisy = augment(x, replace(TINY, shift=0, noise=0.3), generator(0, "test"))
    assert float((noisy - x).std()) == pytest.approx(0.3, rel=0.02)


def test_the_held_out_share_is_stratified_and_disjoint(signals: Splits) -> None:
    samples = replace(signals.train, ids=tuple(str(i) for i in range(80)))
    learn, held = hold_out(samples, 0.25, 0)
    assert held is not None
    assert sorted(map(int, learn.ids + held.ids)) == list(range(80))
    for label in range(10):
        count = int((samples.y == label).sum())
        assert int((held.y == label).sum()) == max(1, round(0.25 * count))
    assert hold_out(samples, 0.0, 0) == (samples, None)
    with pytest.raises(InputError, match="hold out"):
        hold_out(samples.take([0]), 0.5, 0)


def test_in_order_gives_everything_in_order(signals: Splits) -> None:
    torch.testing.assert_close(torch.cat([x for x, _ in InOrder(signals.train)]), signals.train.x)


def test_training_returns_an_evaluating_model_with_card_and_history(signals: Splits) -> None:
    model = hp.train(signals, recipe=TINY, seed=3, quiet=True)
    assert not model.training
    history = history_of(model)
    assert [row.epoch for row in history] == [1, 2, 3]
    assert all(math.isfinite(value) for row in history for value in vars(row).values())
    card = model.card
    assert (card.seed, card.recipe["name"], card.input_shape) == (3, "tiny", (1, 40))
    with torch.no_grad():
        accuracy = float((model(signals.test.x).argmax(1) == signals.test.y).float().mean())
    assert card.metrics["test_accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(("decay", "steps"), [(0.99, 60), (0.998, 60), (0.5, 20)])
def test_a_short_training_is_not_averaged_with_its_start(decay: float, steps: int) -> None:
    kept, current = [torch.zeros(2)], [torch.ones(2)]
    for count in range(1, steps + 1):
        averaging(decay)(kept, current, torch.tensor(count))
    torch.testing.assert_close(kept, current, rtol=0, atol=1e-4)


def test_averaged_weights_can_be_trained_on(signals: Splits) -> None:
    assert all(p.requires_grad for p in hp.train(signals, recipe=TINY, quiet=True).parameters())


def test_one_seed_one_result_and_the_callers_random_state_is_left_alone(signals: Splits) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    first = hp.train(signals, recipe=TINY, quiet=True)
    assert torch.get_rng_state().equal(before)
    assert torch.get_num_threads() == threads
    torch.rand(5)
    torch.testing.assert_close(weights(hp.train(signals, recipe=TINY, quiet=True)), weights(first), rtol=0, atol=0)
    assert not weights(hp.train(signals, recipe=TINY, seed=1, quiet=True)).equal(weights(first))


def test_a_users_module_is_copied_not_changed(signals: Splits) -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(40), nn.Dropout(0.2), nn.Linear(40, 10)).eval()
    before = weights(net)
    model = hp.train(signals, recipe=TINY, net=net, quiet=True)
    torch.testing.assert_close(weights(net), before, rtol=0, atol=0)
    assert not net.training
    assert not weights(model).equal(before)
    torch.testing.assert_close(
        weights(hp.train(signals, recipe=TINY, net=net, quiet=True)), weights(model), rtol=0, atol=0
    )


def test_the_paper_loss_is_cross_entropy_plus_the_squares_of_all_weights(signals: Splits) -> None:
    recipe = resolve("paper:batch=80", epochs=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = hp.nets.build("mnist1d-cnn")
    loss = nn.functional.cross_entropy(start(signals.train.x), signals.train.y)
    for name, parameter in start.named_parameters():
        if name.endswith("weight"):
            for weight in parameter.flatten():
                loss = loss + 5e-4 * weight**2
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in start.parameters() if p.grad is not None))
    (row,) = history_of(hp.train(signals, recipe=recipe, quiet=True))
    assert row.train_loss == pytest.approx(loss.item(), rel=1e-4)
    assert row.grad_norm == pytest.approx(norm, rel=1e-4)


class Stop(nn.Module):
    """Interrupts, as Ctrl-C would, in the given forward pass in training mode."""

    def __init__(self, net: nn.Module, at: int) -> None:
        super().__init__()
        self.net, self.at, self.count = net, at, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += self.training
        if self.count == self.at:
            raise KeyboardInterrupt
        return self.net(x)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_an_interrupted_training_resumes_to_the_same_weights(signals: Splits, tmp_path: Path, keep: str) -> None:
    recipe = replace(TINY, keep=keep, epochs=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(40, 20), nn.Dropout(0.3), nn.BatchNorm1d(20), nn.Linear(20, 10))
    whole = hp.train(signals, recipe=recipe, net=Stop(net, -1), out=tmp_path / "whole", quiet=True)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"after 2 of 4 epochs.*resume"):
        hp.train(signals, recipe=recipe, net=Stop(net, 10), out=tmp_path / "cut", quiet=True)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(read_history(tmp_path / "cut")) == 2
    resumed = hp.train(signals, recipe=recipe, net=Stop(net, -1), out=tmp_path / "cut", quiet=True, resume=True)
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    torch.testing.assert_close(
        [v for row in history_of(resumed) for v in vars(row).values()],
        [v for row in history_of(whole) for v in vars(row).values()],
        rtol=0,
        atol=0,
    )
    assert read_history(tmp_path / "cut") == history_of(resumed)


def test_an_interrupt_without_a_folder_says_that_nothing_is_kept(signals: Splits) -> None:
    net = Stop(nn.Sequential(nn.Flatten(), nn.Linear(40, 10)), 2)
    with pytest.raises(Interrupted, match="nothing was kept"):
        hp.train(signals, recipe=TINY, net=net, quiet=True)


def test_a_folder_holds_one_training(signals: Splits, tmp_path: Path) -> None:
    first = hp.train(signals, recipe=TINY, out=tmp_path, quiet=True)
    with pytest.raises(FolderInUse, match="resume"):
        hp.train(signals, recipe=TINY, out=tmp_path, quiet=True)
    with pytest.raises(FolderInUse, match=r"made with other settings \(seed: 0 there, 1 here\); resume with the same"):
        hp.train(signals, recipe=TINY, out=tmp_path, seed=1, resume=True, quiet=True)
    again = hp.train(signals, recipe=TINY, out=tmp_path, resume=True, quiet=True)
    torch.testing.assert_close(weights(again), weights(first), rtol=0, atol=0)
    assert history_of(again) == history_of(first)
    loaded = hp.load(tmp_path)
    torch.testing.assert_close(loaded(signals.test.x), first(signals.test.x))
    assert loaded.card == first.card
    assert list((tmp_path / "tensorboard").iterdir())


def test_checkpoints_hold_plain_data_only(signals: Splits, tmp_path: Path) -> None:
    hp.train(signals, recipe=replace(TINY, patience=2), out=tmp_path, quiet=True)
    for name in ("best", "last"):
        page = torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert page["epoch"] < 3


def test_a_truncated_checkpoint_is_one_clear_error(signals: Splits, tmp_path: Path) -> None:
    hp.train(signals, recipe=TINY, out=tmp_path, quiet=True)
    (tmp_path / "model" / "card.json").unlink()
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(FileError, match="truncated"):
        hp.train(signals, recipe=TINY, out=tmp_path, resume=True, quiet=True)


def test_tensorboard_holds_scalars_graph_and_heatmaps(signals: Splits, tmp_path: Path) -> None:
    hp.train(signals, recipe=TINY, out=tmp_path, quiet=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss/train", "accuracy/val", "lr", "grad_norm"} <= set(tags["scalars"])
    assert tags["graph"]
    assert tags["images"] == ["heatmaps/grad-cam"]
    assert [event.step for event in events.Scalars("loss/train")] == [1, 2, 3]


def test_early_stopping_waits_for_its_patience_and_keeps_the_best(signals: Splits) -> None:
    recipe = Recipe("stop", 50, 16, 0.05, validation=0.25, patience=2, keep="best")
    model = hp.train(signals, recipe=recipe, quiet=True)
    losses = [row.val_loss for row in history_of(model)]
    best = losses.index(min(losses))
    assert len(losses) == best + 3
    _, held = hold_out(signals.train, 0.25, 0)
    assert held is not None
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(held.x), held.y)
    assert float(loss) == pytest.approx(losses[best], rel=1e-5)


def test_training_is_silent_and_leaves_the_loggers_as_they_were(
    signals: Splits, capfd: pytest.CaptureFixture[str]
) -> None:
    hp.train(signals, recipe=TINY, quiet=True)
    level = logging.getLogger("lightning.pytorch").level
    hp.train(signals, recipe=TINY, quiet=True)
    assert logging.getLogger("lightning.pytorch").level == level
    assert capfd.readouterr() == ("", "")


def test_progress_ends_at_the_last_step(signals: Splits) -> None:
    seen: list[Progress] = []
    fit(hp.nets.build("mnist1d-cnn"), signals.train, TINY, watch=seen.append)
    assert (seen[-1].done, seen[-1].total) == (15, 15)
    assert seen[-1].last is not None
    assert seen[-1].last.epoch == 3
    assert math.isnan(seen[-1].last.val_loss)


def test_a_diverging_loss_is_one_clear_error(signals: Splits) -> None:
    with pytest.raises(HeatproofError, match="learning_rate"):
        hp.train(signals, recipe=Recipe("wild", 3, 16, 1e12, optimiser="sgd"), quiet=True)


def test_heatmap_strips_have_one_row_a_sample_at_every_rank() -> None:
    for size, shape in (((40,), (3, 3 * 48, 320)), ((6, 5), (3, 18, 5)), ((4, 6, 5), (3, 18, 5))):
        maps = torch.zeros(3, *size)
        maps[0] = 1
        maps[1] = -1
        drawn = strips(torch.rand(3, 2, *size), maps)
        assert drawn.shape == shape
        assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
        hot, cold, bare = drawn.unflatten(1, (3, -1)).amax((2, 3)).T.tolist()
        assert hot[1:] == [0, 0]
        assert cold[:2] == [0, 0]
        assert bare[0] == bare[1] == bare[2] > 0
        assert min(hot[0], cold[2]) > 0


@pytest.mark.parametrize("batch", [1, 7, 16, 500])
def test_small_batches_are_stretched_without_losing_any(signals: Splits, batch: int) -> None:
    batches = Shuffled(signals.train, replace(TINY, batch=batch), 0, lambda: 0)
    stretches = list(Stretches(batches))
    assert len(stretches) == len(Stretches(batches))
    flat = [y for stretch in stretches for _, y in stretch]
    assert [len(y) for y in flat] == [len(y) for _, y in batches]
    torch.testing.assert_close(torch.cat(flat), torch.cat([y for _, y in batches]))


def test_what_cannot_be_trained_is_refused(signals: Splits) -> None:
    x = signals.train.x.clone()
    x[7, 0, 3] = math.nan
    with pytest.raises(InputError, match="sample 7"):
        hp.train(replace(signals.train, x=x), quiet=True)
    with pytest.raises(InputError, match="2 of each"):
        hp.train(signals.train.take([0]), quiet=True)
    with pytest.raises(UnknownName):
        hp.train("mnist2d", quiet=True)
    with pytest.raises(UsageError, match="one logit for each of 10 classes"):
        hp.train(signals, net=nn.Sequential(nn.Flatten(), nn.Linear(40, 3)), quiet=True)
    with pytest.raises(UsageError, match="does not accept"):
        hp.train(signals, net=nn.Sequential(nn.Flatten(), nn.Linear(41, 10)), quiet=True)
    images = Samples(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(UsageError, match="pass net="):
        hp.train(images, quiet=True)


def test_the_default_network_takes_its_sizes_from_the_data() -> None:
    random = torch.Generator().manual_seed(0)
    samples = Samples(torch.randn(30, 2, 16, generator=random), torch.arange(30) % 3)
    model = hp.train(samples, recipe=replace(TINY, epochs=1), quiet=True)
    assert model.card.architecture.kwargs == {"channels": 2, "classes": 3, "length": 16}
    assert "test_accuracy" not in model.card.metrics


def test_plan_of_a_folder_is_readable(signals: Splits, tmp_path: Path) -> None:
    hp.train(signals, recipe=replace(TINY, epochs=1), out=tmp_path, quiet=True)
    plan = json.loads((tmp_path / "training.json").read_text())
    assert plan["recipe"]["name"] == "tiny"
    assert plan["seed"] == 0
