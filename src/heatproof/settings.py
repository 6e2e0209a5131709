"""Settings as the fields of a dataclass: one declaration for Python, YAML and the command line.

A field is declared with `setting`; its name, type and default are those of the dataclass. From them follow the check of
a value, the YAML file, and what is typed for it.
"""

from __future__ import annotations

import csv
import os
import reprlib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from heatproof.errors import FileError, UnknownName, UsageError
from heatproof.files import writing
from heatproof.registry import Spec

T = TypeVar("T")
Decides = Literal["numbers", "report", "execution"]
LARGEST = 2**20  # bytes of a YAML file


class Range(NamedTuple):
    """The values that a number may have: from ``low`` to ``high``, the ends themselves unless ``open``."""

    low: float
    high: float | None = None
    open: bool = False

    def holds(self, value: Any) -> bool:
        """Whether the value lies within."""
        high = float("inf") if self.high is None else self.high
        return bool(self.low < value < high if self.open else self.low <= value <= high)

    def __str__(self) -> str:
        if self.high is None:
            return f"{'more than' if self.open else 'at least'} {self.low:,}"
        first, last = ("above", "and below") if self.open else ("from", "to")
        return f"a number {first} {self.low:,} {last} {self.high:,}"


@dataclass(frozen=True)
class Setting:
    """What a field declares beside its name, type and default.

    Attributes:
        help: a sentence for ``--help`` and the pages. metavar, panel: how and under which heading it stands there.
        names: the registry whose names are its values: they are checked, and completed in the shell.
        flag: what is typed for it, where that does not follow from its name.
        decides: what changes with it: the numbers of a run, its report alone, or its execution alone.
        range: the numbers it may be.
    """

    help: str
    metavar: str = ""
    panel: str = "Options"
    names: str = ""
    flag: str = ""
    decides: Decides = "numbers"
    range: Range | None = None


@dataclass(frozen=True)
class Option:
    """A field of a dataclass of settings, with what it declares."""

    name: str
    type: Any
    default: Any
    setting: Setting

    @property
    def flag(self) -> str:
        """What is typed for it."""
        return self.setting.flag or f"--{self.name.replace('_', '-')}"

    @property
    def kind(self) -> Any:
        """The type of its values, None left out; of a list, that of an item."""
        if get_origin(self.type) in (Union, types.UnionType):
            return next(part for part in get_args(self.type) if part is not type(None))
        return get_args(self.type)[0] if self.several else self.type

    @property
    def several(self) -> bool:
        """Whether it holds a list."""
        return get_origin(self.type) is tuple


def setting(default: Any, declared: Setting) -> Any:
    """A dataclass field with this default.

    >>> @dataclass(frozen=True)
    ... class Walk:
    ...     steps: int = setting(10, Setting("How far.", metavar="N", range=Range(1)))
    >>> options(Walk)["steps"].flag
    '--steps'
    """
    return field(default=default, metadata={"setting": declared})


def options(settings: type) -> dict[str, Option]:
    """The fields of a dataclass of settings, by name and in their order."""
    return dict(_options(settings))


@cache
def _options(settings: type) -> dict[str, Option]:
    hints, undeclared = get_type_hints(settings), Setting("")
    return {
        f.name: Option(f.name, hints[f.name], f.default, f.metadata.get("setting", undeclared))
        for f in fields(settings)
    }


def create(settings: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass of settings with these values, which may be written as in a file: lists for tuples, text for specs.

    Raises: UsageError for a value of another type or beyond its range.
    """
    declared = options(settings)
    return settings(**{name: accepted(declared[name], value) for name, value in values.items()})


def settle(settings: Any) -> None:
    """Check every field of a dataclass of settings, and leave each as it is held: lists as tuples, names as Specs.

    Raises: UsageError for a value of another type or beyond its range.
    """
    for option in options(type(settings)).values():
        object.__setattr__(settings, option.name, accepted(option, getattr(settings, option.name)))


def accepted(option: Option, value: Any) -> Any:
    """A value as the field holds it; None stands for the default.

    Raises: UsageError for a value of another type or beyond its range.
    """
    if value is None:
        return option.default
    if option.several:
        items = (value,) if isinstance(value, (str, Spec)) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, (str, option.kind)) for item in items):
            raise _refused(option, value, "a list of names")
        return tuple(_name(option, item) for item in items)
    if option.kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if option.kind in (str, Spec):
        if not isinstance(value, (str, option.kind)):
            raise _refused(option, value, "a name" if option.kind is Spec else "text")
        return _name(option, value)
    if get_origin(option.kind) is Literal:
        if value not in get_args(option.kind):
            raise _refused(option, value, f"one of {', '.join(map(str, get_args(option.kind)))}")
    elif option.kind in (bool, int, float):
        numbers = {bool: (bool,), int: (int,), float: (int, float)}[option.kind]
        if not isinstance(value, numbers) or (isinstance(value, bool) and option.kind is not bool):
            wanted = {bool: "true or false", int: "a whole number", float: "a number"}[option.kind]
            raise _refused(option, value, wanted)
        if option.setting.range is not None and not option.setting.range.holds(value):
            raise _refused(option, value, str(option.setting.range))
        return option.kind(value)
    return value


def _name(option: Option, value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise _refused(option, value, "a name")
    return Spec.parse(value) if option.kind is Spec else value


def _refused(option: Option, value: Any, wanted: str) -> UsageError:
    return UsageError(f"{option.name}: got {reprlib.repr(value)}, expected {wanted}")


def typed(option: Option, text: Any) -> Any:
    """The value that is typed for a field on the command line; numbers and switches have been read before.

    Raises: UsageError for a value of another type or beyond its range.
    """
    value = str(text) if isinstance(text, Path) else text
    if isinstance(text, str) and option.several:
        value = split(text) if option.kind is Spec else quoted(text)
    elif isinstance(text, str) and option.kind is Any and text.strip().isdecimal():
        value = int(text)
    return accepted(option, value)


def words(settings: Any) -> list[str]:
    """What is typed for the settings that differ from their defaults."""
    typed_words = []
    for option in options(type(settings)).values():
        value = getattr(settings, option.name)
        if value == option.default:
            continue
        if option.kind is bool:
            typed_words.append(option.flag if value else f"--no-{option.flag[2:]}")
        else:
            typed_words += [option.flag, text(option, value)]
    return typed_words


def text(option: Option, value: Any) -> str:
    """A value of a field as it is typed; a list with commas between, a name that holds one in double quotes."""
    if not option.several:
        return str(value)
    return ",".join(map(str, value) if option.kind is Spec else map(_quoted, value))


def plain(settings: Any) -> dict[str, Any]:
    """The settings in the types of JSON and YAML, specs as they are typed.

    Raises: UsageError for a value that no file can hold.
    """
    return {option.name: _plain(option, getattr(settings, option.name)) for option in options(type(settings)).values()}


def _plain(option: Option, value: Any) -> Any:
    if option.several:
        return [str(item) for item in value]
    if isinstance(value, Spec):
        return str(value)
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise UsageError(f"{option.name}: got a {type(value).__name__}, which no file can hold; use it in Python only")
    return value


def read(path: Path, settings: type) -> dict[str, Any]:
    """The values that a YAML file has for the fields of a dataclass of settings, each checked.

    Aliases, keys given twice and files over 1 MB are refused.

    Raises: FileError where the file cannot be read or is not YAML, UnknownName and UsageError for what is in it.
    """
    page = _page(path)
    if not isinstance(page, dict):
        raise UsageError(f"{str(path)!r}: got {type(page).__name__}, expected lines like 'seed: 1'")
    declared = options(settings)
    for key in page:
        if key not in declared:
            raise UnknownName(f"setting in {str(path)!r}", str(key), declared)
    return {key: accepted(declared[key], value) for key, value in page.items()}


def write(path: Path, settings: Any) -> Path:
    """The settings as a YAML file that `read` takes, each below what it means.

    Raises: FileError where it cannot be written, UsageError for a value that no file can hold.
    """
    import yaml

    parts = []
    for name, value in plain(settings).items():
        line = yaml.safe_dump({name: value}, allow_unicode=True, default_flow_style=False, width=float("inf"))
        parts.append(f"# {options(type(settings))[name].setting.help}\n{line}")
    with writing(path) as part:
        part.write_text("\n".join(parts), encoding="utf-8")
    return path


def _page(path: Path) -> Any:
    """What a YAML file holds, in plain types."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes no aliases, by which a small file can stand for a huge one, and no key twice."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise UsageError(f"{str(path)!r} uses YAML aliases (*name); write each value out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value]
            twice = [repr(name) for name in dict.fromkeys(map(str, names)) if names.count(name) > 1]
            if twice:
                raise UsageError(f"{str(path)!r} has {' and '.join(twice)} more than once; keep one")
            return super().construct_mapping(node, deep)

    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise FileError(f"{str(path)!r} is larger than 1 MB; a configuration is a short YAML file")
        return Loader(raw.decode()).get_single_data()
    except OSError as error:
        raise FileError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except UsageError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise FileError(f"{str(path)!r} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise FileError(f"{str(path)!r} is not YAML that can be read: it is nested too deeply") from None


def split(texts: str) -> tuple[str, ...]:
    """The specs in a comma-separated list; a comma may also stand between a spec's options.

    >>> split("deletion,average-drop:keep=0.3,ties=drop,insertion")
    ('deletion', 'average-drop:keep=0.3,ties=drop', 'insertion')
    """
    specs: list[str] = []
    for item in filter(None, map(str.strip, texts.split(","))):
        if "=" in item and ":" not in item:
            if not specs:
                raise UsageError(f"got {texts!r}: option {item!r} stands before any name; write name:option=value")
            specs[-1] += ("," if ":" in specs[-1] else ":") + item
        else:
            specs.append(item)
    return tuple(specs)


def quoted(texts: str) -> tuple[str, ...]:
    """The names in a comma-separated list; one that holds a comma stands in double quotes, doubled within them.

    >>> quoted('benign, "in situ, low grade", "5"" wide"')
    ('benign', 'in situ, low grade', '5" wide')
    """
    return tuple(name.strip() for row in _rows(texts) for name in row if name.strip())


def _rows(texts: str) -> Iterator[Sequence[str]]:
    try:
        yield from csv.reader([texts], skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise UsageError(f'got {texts!r}: double quotes have to stand around whole names, as in a,"b, c"') from error


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""')) if "," in name or '"' in name else name
