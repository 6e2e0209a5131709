"""The command line: what it writes, how it fails, how it goes on after an interrupt."""

from __future__ import annotations

import errno
import html
import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import wilcoxon

import heatproof
from heatproof.cli import main, messages, tables
from heatproof.models.card import Card
from heatproof.models.folder import save
from heatproof.nets import build
from heatproof.pipeline import stages
from heatproof.pipeline.comparison import compare
from heatproof.pipeline.plan import Plan, configured
from heatproof.pipeline.registries import KINDS, registry
from heatproof.registry import Spec
from heatproof.settings import create

COMMANDS = (
    ["run"], ["train"], ["evaluate"], ["explain"], ["study"], ["report"], ["compare"], ["export"], ["list"],
    ["data", "fetch"],
)  # fmt: skip
DATA = "mnist1d:samples=300"
SMALL = ["--data", DATA, "--recipe", "fast:epochs=2", "--limit", "24", "--quiet"]


class Screen:
    """Runs commands and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = self.capsys.readouterr()
        return code, out, err

    def fails(self, *words: object, code: int) -> str:
        """The one line that a command which must fail leaves on stderr."""
        got, _, err = self(*words)
        lines = [line for line in err.splitlines() if line.strip() and not line.startswith("note:")]
        assert (got, len(lines)) == (code, 1), err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in err
        return lines[0]


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Screen:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return Screen(capsys)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network on disk."""
    torch.manual_seed(0)
    card = Card(Spec("mnist1d-cnn"), (1, 40), tuple("0123456789"), data=DATA)
    return save(build("mnist1d-cnn"), tmp_path_factory.mktemp("model"), card)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main(["run", *SMALL, "--out", str(folder)]) == 0
    return folder


# What it offers


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_an_example(screen: Screen, words: list[str]) -> None:
    code, out, _ = screen(*words, "--help")
    assert code == 0
    assert f"Example: heatproof {' '.join(words)} " in out


def test_version_and_help(screen: Screen) -> None:
    assert screen("--version") == (0, f"heatproof {heatproof.__version__}\n", "")
    assert "Example: heatproof run" in screen("--help")[1]
    code, out, err = screen()
    assert code == 2
    assert "Usage: heatproof" in out + err


@pytest.mark.parametrize("kind", KINDS)
def test_list_shows_every_name(screen: Screen, kind: str) -> None:
    code, out, _ = screen("list", kind)
    shown = {line.split(" ")[0] for line in out.splitlines()}
    assert code == 0
    assert shown >= set(registry(kind))


# A run


def test_a_run_leaves_its_files(finished: Path) -> None:
    names = (
        "run.json",
        "model/model.safetensors",
        "history.csv",
        "performance.json",
        "study/results.json",
        "report.html",
    )
    assert not [name for name in names if not (finished / name).is_file()]
    maps = load_file(finished / "maps.safetensors")
    everyone = {"grad-cam", "grad-cam-plus-plus", "ablation-cam", "random", "edge", "absolute-input", "centre"}
    assert {name: tuple(heat.shape) for name, heat in maps.items()} == dict.fromkeys(everyone, (24, 40))
    scores = pd.read_csv(finished / "scores.csv")
    assert len(scores) == 24 * 7 * 9
    pd.testing.assert_frame_equal(scores["value"].to_frame(), pd.read_parquet(finished / "scores.parquet")[["value"]])


def test_a_finished_run_is_not_done_again(screen: Screen, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heatproof.training.run._fit", lambda *a: pytest.fail("trained again"))
    monkeypatch.setattr("heatproof.studies.run.chunks_of", lambda *a: pytest.fail("judged again"))
    code, out, _ = screen("run", *SMALL, "--out", finished)
    assert code == 0
    assert "The best method and the best reference map by each metric" in out
    assert "Cannot tell yet" in out or "No method" in out
    assert f"Report {finished / 'report.html'}" in out


def test_two_runs_of_one_seed_give_the_same_scores(screen: Screen, finished: Path, tmp_path: Path) -> None:
    assert screen("run", *SMALL, "--out", tmp_path / "again")[0] == 0
    first, second = (pd.read_parquet(folder / "scores.parquet") for folder in (finished, tmp_path / "again"))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_another_run_does_not_get_the_folder(screen: Screen, finished: Path, tmp_path: Path) -> None:
    line = screen.fails("run", *SMALL, "--seed", 1, "--keep", 0.2, "--out", finished, code=2)
    assert (
        f"{str(finished)!r} was made with other settings (keep: the default there, 0.2 here; seed: 0 there, 1" in line
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    assert "holds files of something else" in screen.fails("run", *SMALL, "--out", tmp_path / "mine", code=2)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_damaged_run_is_refused(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    assert "damaged" in screen.fails("run", *SMALL, "--out", tmp_path, code=1)
    assert "damaged" in screen.fails("report", tmp_path, code=1)


STAGES = {
    "training": "heatproof.training.run._fit",
    "evaluating": "heatproof.performance.evaluate",
    "explaining": "heatproof.pipeline.run.map_writer",
    "judging": "heatproof.studies.run.chunks_of",
    "writing the report": "heatproof.report.write",
}


@pytest.mark.parametrize("doing", STAGES)
def test_ctrl_c_keeps_what_is_finished(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    words = ["run", *SMALL, "--out", str(tmp_path / "stopped")]
    with monkeypatch.context() as patch:
        patch.setattr(STAGES[doing], press)
        line = screen.fails(*words, code=1)
    assert "stopped" in line
    assert line.endswith(f"go on with: heatproof {' '.join(words)}")
    if doing != "training":
        monkeypatch.setattr("heatproof.training.run._fit", lambda *a: pytest.fail("trained again"))
    assert screen(*words)[0] == 0
    assert (tmp_path / "stopped" / "report.html").is_file()


def test_a_full_disk_is_one_line(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(os, "replace", full)
    assert "no space left to write" in screen.fails("run", *SMALL, "--out", tmp_path / "full", code=1)


# One stage at a time


def test_train_evaluate_explain_study_report(screen: Screen, tmp_path: Path) -> None:
    code, out, _ = screen("train", "--data", DATA, "--recipe", "fast:epochs=1", "--out", "net", "--quiet")
    assert code == 0
    assert "13,960" in out
    code, out, _ = screen("evaluate", "--model", "net", "--out", "net")
    assert code == 0
    assert "of 60 samples" in out
    numbers = json.loads((tmp_path / "net" / "performance.json").read_text())["numbers"]
    assert f"{numbers['accuracy']['mean']:.3f}" in out
    code, out, _ = screen("explain", "--model", "net", "--methods", "edge,random", "--limit", 10, "--out", "maps", "-q")
    assert code == 0
    assert {m.shape for m in load_file("maps/maps.safetensors").values()} == {(10, 40)}
    study = ["study", "--model", "net", "--metrics", "deletion,pointing-game", "--limit", "12", "--out", "judged", "-q"]
    assert screen(*study)[0] == 0
    assert set(heatproof.load("judged").metrics) == {"deletion", "pointing-game"}
    assert screen("report", "judged", "--out", "page.html")[0] == 0
    assert Path("page.html").stat().st_size > 10_000


def test_a_report_is_written_again(screen: Screen, finished: Path, tmp_path: Path) -> None:
    assert screen("report", finished, "--out", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").stat().st_size == pytest.approx((finished / "report.html").stat().st_size, rel=0.1)


def test_compare_says_that_samples_differ(screen: Screen, finished: Path, model: Path) -> None:
    assert screen("study", "--model", model, "--limit", 12, "--metrics", "deletion", "--out", "other", "-q")[0] == 0
    code, out, _ = screen("compare", finished, "other")
    assert code == 0
    below = out.partition("deletion (lower is better)")[2].splitlines()
    row = next(line for line in below if line.split()[:1] == ["grad-cam"])
    shown = [f"{heatproof.load(p).estimates()['grad-cam', 'deletion']}" for p in (finished / "study", "other")]
    assert all(estimate in row for estimate in shown)
    assert "first and other judged different samples" in out
    assert "Wilcoxon" not in out
    assert "at least two" in screen.fails("compare", finished, code=2)


def test_compare_tests_pairs_on_the_same_samples(screen: Screen, model: Path) -> None:
    common = ["study", "--data", DATA, "--limit", "20", "--methods", "grad-cam,grad-cam-plus-plus", "-q"]
    first, second = ["--metrics", "deletion,insertion"], ["--metrics", "insertion,deletion", "--no-self-checks"]
    torch.manual_seed(1)
    card = Card(Spec("mnist1d-cnn"), (1, 40), tuple("0123456789"), data=DATA)
    other = save(build("mnist1d-cnn"), Path("other-net"), card)
    assert screen(*common, *first, "--model", model, "--out", "one")[0] == 0
    assert screen(*common, *second, "--model", other, "--out", "two")[0] == 0
    code, out, _ = screen("compare", "one", "two")
    assert code == 0
    assert "What differs between the runs" in out
    assert "model weights" in out
    assert "metrics " in out.partition("What differs")[2].partition("Explanations")[0]
    assert "test samples" not in out
    assert "two less one on the same samples" in out
    assert "adjusted by Holm's rule for the 4 comparisons shown" in out
    compared = compare([Path("one"), Path("two")])
    pairs = {(pair.method, pair.metric): pair for pair in compared.paired}
    assert set(pairs) == set(itertools.product(("grad-cam", "grad-cam-plus-plus"), ("deletion", "insertion")))
    scores = [heatproof.load(name).scores for name in ("one", "two")]
    for cell, pair in pairs.items():
        assert pair.difference.mean == pytest.approx(np.nanmean(scores[1][cell] - scores[0][cell]))
    raw = [wilcoxon(scores[1][cell] - scores[0][cell]).pvalue for cell in pairs]
    order = np.argsort(raw)
    holm = np.minimum(1, np.maximum.accumulate(np.array(raw)[order] * np.arange(4, 0, -1)))
    np.testing.assert_allclose([list(pairs.values())[i].p for i in order], holm)


@pytest.mark.parametrize(("columns", "shown"), [("30", ["deletion", "  :steps=4"]), ("200", ["deletion:steps=4"])])
def test_long_names_break_before_their_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, shown: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    messages.out().print(tables.fitting("Title", ("Name", "Value"), [("deletion:steps=4", "a value of twenty")]))
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.replace("a value of twenty", "").rstrip() for line in lines] == shown


def test_a_study_leaves_its_report_and_verdict(screen: Screen, model: Path) -> None:
    words = ["study", "--model", str(model), "--metrics", "deletion", "--limit", "8", "--out", "judged", "-q"]
    code, out, _ = screen(*words)
    assert code == 0
    assert f"Report {Path('judged', 'report.html')}" in out
    page, verdict = Path("judged", "report.html").read_text(), json.loads(Path("judged", "verdict.json").read_text())
    assert verdict["text"] in out
    assert html.unescape(page).count(verdict["text"]) >= 1
    for finding in verdict["findings"][:3]:
        assert finding["text"] in out
    assert screen(*words)[0] == 0  # the folder is still that of the same study


@pytest.mark.parametrize("command", ["run", "study"])
def test_the_configuration_in_force_is_written_and_nothing_else(screen: Screen, command: str) -> None:
    Path("in.yaml").write_text("model: somewhere\nseed: 3\nfills: [blur, mean]\ncontrols: false\n")
    words = ["--config", "in.yaml", "--seed", "0", "--methods", "grad-cam,edge", "--write-config", "out.yaml"]
    code, out, _ = screen(command, *words)
    assert (code, out) == (0, "Configuration out.yaml\n")
    values = {"fills": ["blur", "mean"], "controls": False, "methods": ["grad-cam", "edge"]}
    assert configured(Plan, Path("out.yaml"), {}) == create(Plan, {"model": "somewhere", **values})
    assert sorted(path.name for path in Path().iterdir()) == ["in.yaml", "out.yaml"]


def test_a_run_from_a_file_goes_on_in_the_folder_of_the_same_run(
    screen: Screen, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heatproof.training.run._fit", lambda *a: pytest.fail("trained again"))
    monkeypatch.setattr("heatproof.studies.run.chunks_of", lambda *a: pytest.fail("judged again"))
    Path("run.yaml").write_text(f"data: {DATA}\nrecipe: fast:epochs=2\nlimit: 24\nworkers: processes:2\n")
    assert screen("run", "--config", "run.yaml", "--out", finished, "-q")[0] == 0
    assert "limit: 24 there, 25 here" in screen.fails(
        "run", "--config", "run.yaml", "--limit", 25, "--out", finished, code=2
    )


def test_a_study_from_a_file(screen: Screen, model: Path, tmp_path: Path) -> None:
    page = f"model: {model}\nmethods: [grad-cam]\nmetrics: [average-drop, deletion]\nkeep: 0.2\nlimit: 30\nseed: 3\n"
    Path("study.yaml").write_text(page)
    assert screen("study", "--config", "study.yaml", "--limit", 8, "--out", "judged", "-q")[0] == 0
    study = heatproof.load("judged")
    assert (len(study), study.seed, study.methods) == (8, 3, ("grad-cam",))
    assert study.metrics == ("average-drop:keep=0.2", "deletion")


@pytest.mark.parametrize(
    ("page", "code", "message"),
    [
        ("metric: deletion", 2, "did you mean 'metrics'"),
        ("metrics: [deletio]", 2, "did you mean 'deletion'"),
        ("limit: many", 2, "limit: got 'many'"),
        ("- deletion", 2, "expected lines like"),
        ("metrics: [", 1, "is not YAML"),
    ],
)
def test_a_bad_study_file_is_one_line(screen: Screen, page: str, code: int, message: str) -> None:
    Path("study.yaml").write_text(page)
    assert message in screen.fails("study", "--model", "m", "--config", "study.yaml", code=code)


OURS = """from torch import nn


def net():
    return nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 10))
"""


def test_a_users_own_network(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours_for_cli.py").write_text(OURS)
    monkeypatch.syspath_prepend(tmp_path)
    net = importlib.import_module("ours_for_cli").net()
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    words = ["--model", "ours_for_cli:net", "--weights", "w.safetensors"]
    code, out, _ = screen("evaluate", *words, "--data", DATA)
    assert code == 0
    samples = heatproof.data.load(DATA).test
    assert f"{(net(samples.x).argmax(1) == samples.y).float().mean():.3f}" in out
    assert "Outputs one logit a class" in out
    assert "name it with --data" in screen.fails("evaluate", *words, code=2)
    code, out, _ = screen("explain", *words, "--data", DATA, "--outputs", "logits", "--limit", "4", "--methods", "edge")
    assert code == 0
    assert "Outputs one logit a class (as outputs= says)" in out
    refused = screen.fails("explain", *words, "--data", DATA, "--outputs", "binary-logit", code=2)
    assert "outputs: binary-logit (outputs=) needs one column" in refused


# Misuse


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --methods grad-cm", "did you mean 'grad-cam'"),
        ("run --metrics deletoin", "did you mean 'deletion'"),
        ("run --metrics average-drop:keep=lots", "option keep got 'lots'"),
        ("run --data mnist", "did you mean 'mnist1d'"),
        ("run --recipe fats", "did you mean 'fast'"),
        ("run --net resnet", "unknown network"),
        ("run --fill blak", "did you mean 'black'"),
        ("run --level 95", "level: got 95.0, expected a number above 0 and below 1"),
        ("run --target 10", "expected 0 to 9 for 10 classes"),
        ("run --target ten", "unknown class 'ten'"),
        ("run --case-class ten", "unknown class 'ten'"),
        ("run --outputs head:odds", "expected one of logits, probabilities"),
        ("run --workers many", "workers: got 'many'"),
        ("run --classes a,b", "--classes without --model"),
        ("run --layer conv9 --data mnist1d:samples=100 --recipe fast:epochs=1 -q", "conv9"),
        ("run --keep 1.5", "above 0 and below 1"),
        ("run --keep=0.3=0.4", "--keep"),
        ("run --methods =3", "stands before any name"),
        ("run --limit 0", "limit: got 0, expected at least 1"),
        ("run --seed -1", "seed: got -1, expected a number from 0"),
        ("run --path somewhere", "takes no --path"),
        ("run --weights w.safetensors", "without --model"),
        ("run --colour", "--colour"),
        ("fly", "No such command 'fly'"),
        ("evaluate", "--model"),
        ("explain", "--model"),
        ("study", "--model"),
        ("evaluate --model nowhere.module:factory", "cannot import"),
        ("list cats", "'methods'"),
        ("data fetch hmtt", "did you mean 'hmt'"),
        ("report", "RUN"),
    ],
)
def test_misuse_is_one_line_and_code_2(screen: Screen, words: str, message: str) -> None:
    assert message.lower() in screen.fails(*words.split(), code=2).lower()
    assert not Path("runs", "mnist1d", "model").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate --model nowhere", "nothing at 'nowhere'"),
        ("export nowhere --to m.onnx", "nothing at 'nowhere'"),
        ("report nowhere", "missing"),
        ("compare nowhere elsewhere", "missing"),
        ("study --model nowhere --config nowhere.yaml", "cannot read"),
        ("run --data folder --path nowhere", "nowhere"),
    ],
)
def test_failure_is_one_line_and_code_1(screen: Screen, words: str, message: str) -> None:
    assert message in screen.fails(*words.split(), code=1)


@pytest.mark.parametrize("cut", [0, 100, 5000])
def test_a_truncated_model_is_one_line(screen: Screen, model: Path, tmp_path: Path, cut: int) -> None:
    save(heatproof.load(model), tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    assert "truncated" in screen.fails("evaluate", "--model", "broken", code=1)


def test_debug_shows_the_traceback(screen: Screen) -> None:
    for words in (["--debug", "evaluate", "--model", "nowhere"], ["evaluate", "--model", "nowhere", "--debug"]):
        code, _, err = screen(*words)
        assert code == 1
        assert "Traceback" in err
        assert "FileError" in err


def test_an_unforeseen_error_is_one_line_too(screen: Screen, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("heatproof.pipeline.stages.assess", fail)
    line = screen.fails("evaluate", "--model", model, code=1)
    assert "unexpected RuntimeError: first line; run it again with --debug" in line


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    # A process started in the background inherits an ignored SIGINT; this one must not.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", code + "from heatproof.cli import main; sys.exit(main())"]
    words = ["run", "--recipe", "paper", "--out", "runs/long"]
    with subprocess.Popen([*command, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        yield running
        running.kill()


def test_the_package_is_a_command() -> None:
    for word, code in (("--version", 0), ("nonsense", 2)):
        done = subprocess.run([sys.executable, "-m", "heatproof", word], capture_output=True, text=True, check=False)
        assert done.returncode == code
    assert "no" in done.stderr.lower()


def test_a_real_ctrl_c_during_training(process: subprocess.Popen[str], tmp_path: Path) -> None:
    import signal
    import time

    limit = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("long/checkpoints/*")) and time.monotonic() < limit:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    last = [line for line in err.splitlines() if line.strip()][-1]
    assert process.returncode == 1
    assert "go on with: heatproof run --recipe paper --out runs/long" in last
    assert "Traceback" not in err


# Parts


def test_a_class_with_a_comma_is_one_class(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_of_two.py").write_text(OURS.replace("10)", "2)"))
    monkeypatch.syspath_prepend(tmp_path)
    words = ("evaluate", "--model", "net_of_two:net", "--data", "mnist1d:samples=100")
    assert "nil, none" in screen.fails(*words, "--classes", 'one,"nil, none"', code=2)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "mnist1d"),
        ({"seed": 2, "recipe": "paper"}, "mnist1d-paper-seed2"),
        ({"data": "mnist1d:samples=100,seed=3"}, "mnist1d-samples=100-seed=3"),
        ({"model": "some/where/vgg.h5", "data": "hmt"}, "hmt-vgg"),
        ({"model": "package.module:factory"}, "package.module-factory"),
    ],
)
def test_a_run_has_a_name_of_its_own(values: dict[str, Any], name: str) -> None:
    assert create(Plan, values).name == name


def test_the_samples_to_explain_are_spread_over_the_set() -> None:
    samples = heatproof.data.load(DATA).test
    few = stages.chosen(Plan(limit=3), samples)
    torch.testing.assert_close(few.x, samples.x[[0, 30, 59]])
    assert len(stages.chosen(Plan(limit=500), samples)) == 60
