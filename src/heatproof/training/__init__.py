"""Train a classifier by a named recipe, with Lightning underneath; importing this package does not load it.

recipes    what a recipe may say, and the named ones
batches    in-memory batches, augmentation, the validation split
images     augmentation of images, and recipes that use it
task       the Lightning module: loss, optimiser, rate, weight averaging
watching   history, progress, TensorBoard
fitting    the trainer: checkpoints, resuming, interrupts
running    `train`: data and network by name, the saved model
"""

from __future__ import annotations

from heatproof.training.history import HISTORY, Epoch, Progress, history_of, read_history
from heatproof.training.recipes import Recipe, recipe, recipes, resolve
from heatproof.training.run import train, untrained

__all__ = [
    "HISTORY",
    "Epoch",
    "Progress",
    "Recipe",
    "history_of",
    "read_history",
    "recipe",
    "recipes",
    "resolve",
    "train",
    "untrained",
]
