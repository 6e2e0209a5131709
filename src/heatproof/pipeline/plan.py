"""What a run is to do, checked before anything is done, and the folder it belongs to."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from heatproof.errors import FileError, FolderInUse, UnknownName, UsageError
from heatproof.files import writing
from heatproof.registry import Registry

RUN = "run.json"
_REGISTRIES = {
    "data": "heatproof.data:datasets",
    "fills": "heatproof.fills:fills",
    "methods": "heatproof.methods:methods",
    "metrics": "heatproof.metrics:metrics",
    "nets": "heatproof.nets:nets",
    "recipes": "heatproof.training:recipes",
}


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a run does; two runs of one plan give the same numbers.

    Attributes:
        data, path: the data set and, if it lies on disk, where; None for what the model was trained on, else MNIST-1D.
        model, weights: a trained model, see `heatproof.models.names.model`; None for the one that is shipped for the
            data, or to train ``net`` by ``recipe`` where either is given or none is shipped.
        classes: what the outputs of ``model`` are, in order; empty for what its card or else the data says.
        methods, metrics: specs; empty for the study's own choice.
        keep: put into every metric that has such an option and was not given it; None for 0.9 of an image, and else
            the study's own choice.
        fill: the baselines, a study each; empty for black, blur and mean with images, and else for mean.
        layer: the layers for CAMs; empty for the last convolution.
        trials: whether metrics and model are put to the trials of `heatproof.study`.
        limit: how many test samples are explained and judged; None for all.
        case_class: the class of the worked cases; None for the first.
        strict: whether a file that cannot be read is an error.
    """

    data: str | None = None
    path: str | None = None
    model: str | None = None
    weights: str | None = None
    classes: tuple[str, ...] = ()
    net: str | None = None
    recipe: str | None = None
    methods: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    keep: float | None = None
    fill: tuple[str, ...] = ()
    layer: tuple[str, ...] = ()
    trials: bool = True
    limit: int | None = None
    case_class: str | None = None
    strict: bool = False
    seed: int = 0

    @property
    def name(self) -> str:
        """What a run of this plan is called unless told otherwise."""
        model = self.model or ""
        parts = [self.data or ("" if model else "mnist1d"), model if ":" in model else Path(model).stem]
        parts += [self.recipe if self.model is None and self.recipe and self.recipe != "fast" else ""]
        parts += [f"seed{self.seed}" if self.seed else ""]
        return "-".join(re.sub(r"[^\w.=]+", "-", part).strip("-") for part in parts if part)

    def command(self, out: Path | None = None) -> str:
        """What to type for a run of this plan.

        >>> Plan(seed=1, methods=("grad-cam", "edge")).command()
        'heatproof run --methods grad-cam,edge --seed 1'
        >>> print(Plan(model="net.h5", classes=("benign", "in situ, low grade")).command())
        heatproof run --model net.h5 --classes 'benign,"in situ, low grade"'
        """
        words = ["heatproof", "run"]
        for option in fields(self):
            value, name = getattr(self, option.name), f"--{option.name.replace('_', '-')}"
            if isinstance(value, bool) and value != option.default:
                words.append(name if value else f"--no-{name[2:]}")
            elif value != option.default:
                words += [name, _typed(value, quoted=option.name == "classes")]
        return shlex.join(words + (["--out", str(out)] if out is not None else []))


def _typed(value: Any, *, quoted: bool) -> str:
    """A value as it is typed; a list with commas between, ``quoted`` names that hold one in double quotes."""
    if not isinstance(value, tuple):
        return str(value)
    return ",".join('"{}"'.format(v.replace('"', '""')) if quoted and re.search('[,"]', v) else v for v in value)


def registry(kind: str) -> Registry:
    """The registry of methods, metrics, fills, data, recipes or nets."""
    module, _, name = _REGISTRIES[kind].partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, Registry)
    return found


def checked(plan: Plan) -> Plan:
    """The plan, after a look at everything it names: no model is trained for a misspelt metric.

    Raises: UnknownName, UsageError.
    """
    named: list[tuple[str, str | None]] = [("methods", name) for name in plan.methods]
    named += [("metrics", name) for name in plan.metrics]
    named += [("fills", name) for name in plan.fill]
    named += [("data", plan.data), ("nets", plan.net), ("recipes", plan.recipe)]
    for kind, name in named:
        if name is not None:
            registry(kind).spec(name)
    if plan.keep is not None and not 0 < plan.keep < 1:
        raise UsageError(f"keep: got {plan.keep}, expected a share of the positions between 0 and 1")
    if plan.classes and plan.model is None:
        raise UsageError("got --classes without --model; they name the outputs of a model that is given")
    if plan.limit is not None and plan.limit < 1:
        raise UsageError(f"limit: got {plan.limit}, expected at least 1 sample")
    return plan


def claim(folder: Path, plan: Plan) -> None:
    """Take a folder for a run of this plan; one that holds the same run, whole or in part, is taken up again.

    Raises: FolderInUse where it holds something else, FileError where it cannot be read or written.
    """
    page = {"heatproof": "run", "plan": json.loads(json.dumps(asdict(plan)))}
    manifest = folder / RUN
    if manifest.exists():
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))["plan"]
            usual = json.loads(json.dumps(asdict(Plan())))  # options that the run's version did not know yet
            differs = [key for key in page["plan"] if found.get(key, usual[key]) != page["plan"][key]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise FileError(f"{str(manifest)!r} is damaged; choose another folder with --out") from None
        if differs:
            raise FolderInUse(
                f"{str(folder)!r} holds a run with another {' and '.join(differs)}; choose another folder with --out"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderInUse(f"{str(folder)!r} holds something else; choose another folder with --out")
    else:
        with writing(manifest) as part:
            part.write_text(json.dumps(page, indent=2) + "\n", encoding="utf-8")


@contextmanager
def claimed(folder: Path, plan: Plan) -> Iterator[None]:
    """A folder taken by `claim`, and let go of where the block fails before anything else is in it."""
    taken = (folder / RUN).exists()
    claim(folder, plan)
    try:
        yield
    except BaseException:
        if not taken and [entry.name for entry in folder.iterdir()] == [RUN]:
            (folder / RUN).unlink()
            folder.rmdir()
        raise


def plan_of(folder: Path) -> Plan:
    """The plan of the run in a folder.

    Raises: FileError where there is none, or it is damaged.
    """
    try:
        found = json.loads((folder / RUN).read_text(encoding="utf-8"))["plan"]
        known: dict[str, Any] = {f.name: found[f.name] for f in fields(Plan) if f.name in found}
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
        return Plan(**known)
    except FileNotFoundError:
        raise FileError(f"{str(folder)!r} holds no run ({RUN} is missing)") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FileError(f"{str(folder / RUN)!r} is damaged") from None


def read_plan(path: Path, given: Plan) -> Plan:
    """The plan in a YAML file; what ``given`` sets to something else than its default wins.

    Raises: FileError where the file cannot be read, UnknownName and UsageError for what is in it.
    """
    import yaml

    try:
        page = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FileError(f"{str(path)!r} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(page, dict):
        raise UsageError(f"{str(path)!r}: got {type(page).__name__}, expected lines like 'data: mnist1d'")
    known = {f.name: f for f in fields(Plan)}
    wanted: dict[str, Any] = {}
    for key, value in page.items():
        if key not in known:
            raise UnknownName(f"setting in {str(path)!r}", str(key), known)
        if getattr(given, key) == known[key].default:
            wanted[key] = _setting(str(key), value)
    return replace(given, **wanted)


def _setting(key: str, value: object) -> object:
    if key in ("methods", "metrics", "layer", "fill", "classes"):
        if not isinstance(value, (str, list)) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{key}: got {value!r}, expected a list of names")
        return (value,) if isinstance(value, str) else tuple(value)
    kinds = {"keep": (int, float), "limit": (int,), "seed": (int,), "strict": (bool,), "trials": (bool,)}
    wanted = kinds.get(key, (str,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise UsageError(f"{key}: got {value!r}, expected {' or '.join(kind.__name__ for kind in wanted)}")
    return value
