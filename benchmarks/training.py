"""Training in numbers: accuracy and time of recipe ``fast``, time a step beside other loops, and recipe ``paper``.

    python benchmarks/training.py            the fast recipe over three seeds, and a step of each framework
    python benchmarks/training.py --paper    the paper's recipe to its end (25,000 steps)

The Keras row needs TensorFlow, best in an environment of its own: set HEATPROOF_TF_PYTHON to its interpreter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import heatproof as hp
from heatproof.training import Progress, history_of, resolve

BATCH, EPOCHS = 32, 6

KERAS = """
import sys, time
import keras, numpy as np, tensorflow as tf
data = np.load(sys.argv[1]); epochs = int(sys.argv[2])
x, y = data["x"], keras.utils.to_categorical(data["y"], 10)
decay = keras.regularizers.l2(5e-4)
conv = dict(padding="same", activation="relu", kernel_regularizer=decay)
model = keras.Sequential([
    keras.Input((40, 1)),
    keras.layers.Conv1D(25, 5, **conv), keras.layers.Conv1D(25, 3, **conv), keras.layers.Conv1D(25, 3, **conv),
    keras.layers.Flatten(),
    keras.layers.Dense(10, activation="softmax", kernel_regularizer=decay,
                       kernel_initializer=keras.initializers.RandomNormal(stddev=0.5)),
])
assert model.count_params() == 13960
model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy", metrics=["accuracy"])
class Clock(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None): self.start = time.perf_counter()
    def on_epoch_end(self, epoch, logs=None):
        print("seconds", time.perf_counter() - self.start, keras.__version__, tf.__version__)
model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, callbacks=[Clock()])
"""


def fast(seeds: int) -> Iterator[str]:
    """Test accuracy and wall-clock seconds of training, seed by seed."""
    yield "| seed | test accuracy | seconds of training |\n|---|---|---|"
    accuracies, seconds = [], []
    for seed in range(seeds):
        metrics = hp.train("mnist1d", seed=seed, quiet=True).card.metrics
        accuracies.append(metrics["test_accuracy"])
        seconds.append(metrics["seconds"])
        yield f"| {seed} | {accuracies[-1]:.3f} | {seconds[-1]:.1f} |"
    yield f"| mean | {np.mean(accuracies):.3f} | {np.mean(seconds):.1f} |\n"


def steps() -> Iterator[str]:
    """Milliseconds a step of the course network, batch 32, SGD with the L2 term: the median over epochs."""
    yield f"| loop (batch {BATCH}, SGD, L2 term) | ms a step, median of {EPOCHS - 1} epochs |\n|---|---|"
    yield f"| heatproof (Lightning) | {_median(_ours()):.2f} |"
    for threads in sorted({1, torch.get_num_threads()}):
        yield f"| plain torch loop, {threads} thread{'s' * (threads > 1)} | {_median(_plain(threads)):.2f} |"
    if python := os.environ.get("HEATPROOF_TF_PYTHON"):
        yield f"| Keras on TensorFlow | {_median(_keras(python)):.2f} |"
    yield ""


def paper() -> Iterator[str]:
    """The end of recipe ``paper``."""
    model = hp.train("mnist1d", recipe="paper", quiet=not sys.stderr.isatty())
    history, metrics = history_of(model), model.card.metrics
    last = history[-1]
    yield "| recipe paper | value |\n|---|---|"
    yield f"| training accuracy, last epoch as it ran | {last.train_accuracy:.5f} |"
    yield f"| training accuracy, best epoch as it ran | {max(row.train_accuracy for row in history):.5f} |"
    yield f"| training accuracy of the final weights | {metrics['train_accuracy']:.5f} |"
    yield f"| penalised training loss, last epoch | {last.train_loss:.4f} |"
    yield f"| test accuracy | {metrics['test_accuracy']:.3f} |"
    yield f"| seconds | {metrics['seconds']:.0f} |\n"


def _median(seconds: list[float]) -> float:
    # The first epoch pays for warming up.
    return 1000 * float(np.median(seconds[1:])) / 125


def _ours() -> list[float]:
    from heatproof.training.fit import fit

    marks = [time.perf_counter()]
    seen = 0

    def watch(progress: Progress) -> None:
        nonlocal seen
        if progress.last is not None and progress.last.epoch > seen:
            seen = progress.last.epoch
            marks.append(time.perf_counter())

    torch.manual_seed(0)
    fit(hp.nets.build("mnist1d-cnn"), hp.data.mnist1d().train, resolve("paper", epochs=EPOCHS), watch=watch)
    return list(np.diff(marks))


def _plain(threads: int) -> list[float]:
    before, train = torch.get_num_threads(), hp.data.mnist1d().train
    torch.set_num_threads(threads)
    net = hp.nets.build("mnist1d-cnn")
    weights = [p for p in net.parameters() if p.ndim > 1]
    optimiser, seconds = torch.optim.SGD(net.parameters(), lr=0.01), []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for rows in torch.randperm(len(train)).split(BATCH):
            loss = functional.cross_entropy(net(train.x[rows]), train.y[rows])
            loss = loss + 5e-4 * sum(w.square().sum() for w in weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(before)
    return seconds


def _keras(python: str) -> list[float]:
    train = hp.data.mnist1d().train
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "train.npz")
        np.savez(file, x=train.x.numpy().transpose(0, 2, 1), y=train.y.numpy())
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "tensorflow",
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [python, "-c", KERAS, str(file), str(EPOCHS)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Keras failed under {python}: {done.stderr.strip().splitlines()[-1:]}")
    return [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("seconds")]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", action="store_true", help="run the paper's recipe instead")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the fast recipe")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n", flush=True)
    for line in (paper(),) if options.paper else (fast(options.seeds), steps()):
        for text in line:
            print(text, flush=True)


if __name__ == "__main__":
    main()
