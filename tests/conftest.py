"""Shapes and types are checked in the tests: every annotated function of heatproof, with jaxtyping and beartype."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch
from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

# The hook takes the checker by name; this one lets a whole number stand where a float is asked for, as mypy does.
checker = ModuleType("heatproof_checker")
vars(checker)["check"] = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
install_import_hook("heatproof", "heatproof_checker.check")
torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")  # --hypothesis-profile=default draws other examples in every run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """The folder of shared data beside the repository; tests that need it are skipped where it is absent."""
    folder = root.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared data folder beside the repository")
    return folder


@pytest.fixture(autouse=True)
def own_random_state() -> object:
    """Each test starts from the same global random state, and none sees what another left."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)  # beartype draws from it which entry of a tuple to look at
        yield


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras on its torch backend; tests that need it are skipped where it is absent."""
    from heatproof.errors import UsageError
    from heatproof.models.formats.keras_files import import_keras

    try:
        return import_keras()
    except UsageError as error:
        pytest.skip(str(error))
