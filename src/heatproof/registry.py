"""Names to functions: methods, metrics, fills, data sets and recipes register themselves here.

A Spec is a name with frozen options, written ``road:steps=20,fill=blur``. It is parsed once, at the edge, and carried
from then on; it becomes text only where a person reads it or a file holds it.

A name may be typed as a reader knows it (``GradCAM``, ``grad_cam``, ``Grad-CAM++``); the registered one is carried.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

from heatproof.errors import UnknownName, UsageError

_NOTE = re.compile(r"(?:^|(?<=\. ))(Deviates|Range|Cost|Raises|Tells|Cannot|Mind): ", flags=re.MULTILINE)
_OPENING = "=([{,:"  # a quote after one of these opens a string


@dataclass(frozen=True)
class Spec:
    """A registered name with its options; hashable, picklable, printed as it is typed.

    >>> str(Spec("road", (("steps", 20),)))
    'road:steps=20'
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str | Spec) -> Spec:
        """The spec written as ``name:option=value,option=value``.

        Raises: UsageError where an option lacks its ``=value``, or stands there twice.

        >>> Spec.parse("road:steps=20").kwargs
        {'steps': 20}
        """
        if isinstance(text, Spec):
            return text
        name, _, rest = text.strip().partition(":")
        options: dict[str, Any] = {}
        for item in _split(rest):
            key, equals, value = item.partition("=")
            option = key.strip().replace("-", "_")
            if not equals or not option:
                raise UsageError(f"option {item!r} in {text!r} has no value; write name:option=value,option=value")
            if option in options:
                raise UsageError(f"option {option!r} stands twice in {text!r}; write it once")
            options[option] = _literal(value.strip())
        return cls(name.strip(), tuple(sorted(options.items())))

    @property
    def kwargs(self) -> dict[str, Any]:
        """The options as keyword arguments."""
        return dict(self.options)

    def __str__(self) -> str:
        tail = ",".join(f"{key}={_written(value)}" for key, value in self.options)
        return f"{self.name}:{tail}" if tail else self.name


def _split(text: str) -> Iterator[str]:
    """The text cut at its commas, those within brackets or quotes left out."""
    depth, start, quote, before, escaped = 0, 0, "", "=", False
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in "'\"" and before in _OPENING:
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
            if character == "," and depth == 0:
                yield text[start:i]
                start = i + 1
        before = character if not character.isspace() else before
    if text[start:].strip():
        yield text[start:]


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "inf": math.inf, "-inf": -math.inf}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return tuple(_literal(part) for part in text.split("+")) if "+" in text.strip("+") else text
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _written(value: object) -> str:
    """The value as it is typed; in Python's own notation where the short one would be read as another value."""
    short = "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
    plain = short == short.strip() and not set(short) & set(",()[]{}'\"\\")
    return short if plain and repr(_literal(short)) == repr(value) else _quoted(value)


def _quoted(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_quoted, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


@dataclass(frozen=True)
class Entry:
    """One registered function and what is declared of it.

    Attributes:
        name: kebab-case, equal to the function's own. paper: an arXiv number or a DOI.
        label: a short plain name for figures. limits: the least value of an option.
    """

    name: str
    function: Callable[..., Any]
    paper: str = field(default="", kw_only=True)
    label: str = field(default="", kw_only=True)
    limits: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        words = self.name.replace("-", " ")
        object.__setattr__(self, "label", self.label or words[:1].upper() + words[1:])

    @cached_property
    def summary(self) -> str:
        """The first paragraph of the function's docstring, on one line."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n")[0].split())

    @cached_property
    def notes(self) -> dict[str, str]:
        """What the docstring says after ``Range:``, ``Cost:``, ``Deviates:``, ``Tells:`` and their like."""
        text = inspect.getdoc(self.function) or ""
        marks = list(_NOTE.finditer(text))
        ends = [mark.start() for mark in marks[1:]] + [len(text)]
        parts = {mark[1]: text[mark.end() : end] for mark, end in zip(marks, ends, strict=True)}
        return {name: " ".join(part.split("\n\n")[0].split()) for name, part in parts.items()}

    @property
    def cost(self) -> str:
        """What it costs in passes through the model, where the docstring says so."""
        return self.notes.get("Cost", "")

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults: the keyword-only parameters that have one."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands in brackets after the summary in a list."""
        return ()

    @property
    def refuses(self) -> tuple[str, ...]:
        """The shared options of its registry that have no meaning for this entry."""
        return ()

    def facts(self) -> dict[str, Any]:
        """The summary and everything declared, in plain types, for a file."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "function", "limits")}
        return {"summary": self.summary, **values}


@runtime_checkable
class Named(Protocol):
    """What a catalogue holds."""

    @property
    def name(self) -> str:
        """Its kebab-case name."""


T = TypeVar("T", bound=Named)
E = TypeVar("E", bound=Entry)


class Catalogue(Generic[T]):
    """Things by their kebab-case names, each name declared once; looked up by any spelling of the name.

    >>> colours = Catalogue("colour")
    >>> _ = colours.add(Spec("dark-red"))
    >>> colours["DarkRed"].name, colours["dark_red"].name
    ('dark-red', 'dark-red')
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, entry: T) -> T:
        """Declares the entry.

        Raises: UsageError where the name is taken or is not kebab-case.
        """
        name = entry.name
        if name != name.lower() or "_" in name or " " in name:
            raise UsageError(f"{self.kind} name {name!r} must be kebab-case")
        if name in self._entries:
            raise UsageError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry
        return entry

    @property
    def declared(self) -> tuple[T, ...]:
        """The entries in the order in which they were declared."""
        return tuple(self._entries.values())

    def canonical(self, name: str) -> str:
        """The registered name that is meant; hyphens, underscores and capitals do not matter, ``++`` is plus-plus.

        Raises: UnknownName, with the near names.
        """
        return _meant(self.kind, name, self._entries)

    @contextmanager
    def temporarily(self) -> Iterator[None]:
        """Forgets at its end what was declared within it; for tests."""
        before = dict(self._entries)
        try:
            yield
        finally:
            self._entries = before

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._entries or len(_matches(name, self._entries)) == 1)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


class Registry(Catalogue[E]):
    """A catalogue of functions, asked for by specs.

    Args:
        shared: options that entries take besides their own, unless one refuses it: a name and the type of its values.
        named: options whose values are names in another registry; they are checked and forgiven there.
    """

    def __init__(
        self,
        kind: str,
        *,
        shared: Mapping[str, Any] | None = None,
        named: Mapping[str, Registry[Any]] | None = None,
    ) -> None:
        super().__init__(kind)
        self.shared = dict(shared or {})
        self.named = dict(named or {})

    def add(self, entry: E) -> E:
        """Declares the entry.

        Raises: UsageError where the name is taken, is not kebab-case, or differs from the function's own.
        """
        own = entry.function.__name__
        if own.strip("_").replace("_", "-") != entry.name and entry.name == entry.name.lower().replace("_", "-"):
            raise UsageError(f"{self.kind} {entry.name!r} must carry its function's name, got {own!r}")
        return super().add(entry)

    def spec(self, text: str | Spec) -> Spec:
        """The parsed spec, checked: the name exists and so does each option, with a value of its type.

        Raises: UnknownName, UsageError.
        """
        spec = Spec.parse(text)
        entry = self[spec.name]
        shared = {option: hint for option, hint in self.shared.items() if option not in entry.refuses}
        allowed = {**entry.options, **shared}
        hints = {**get_type_hints(inspect.unwrap(entry.function)), **shared} if spec.options else {}
        options: dict[str, Any] = {}
        for key, value in spec.options:
            option = _meant(f"option of {self.kind} {entry.name!r}", key, allowed)
            if option in options:
                raise UsageError(f"{entry.name}: option {option} stands twice in {str(spec)!r}; write it once")
            options[option] = self._checked(entry, option, value, hints.get(option, object))
        return Spec(entry.name, tuple(sorted(options.items())))

    def _checked(self, entry: E, option: str, value: Any, hint: Any) -> Any:
        if option in self.named and isinstance(value, str):
            return str(self.named[option].spec(value))
        if not _fits(value, hint):
            choices = get_args(hint) if get_origin(hint) is Literal else ()
            written = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
            wanted = f"one of {', '.join(map(str, choices))}" if choices else written
            raise UsageError(f"{entry.name}: option {option} got {value!r}, expected {wanted}")
        least = entry.limits.get(option)
        if least is not None and value is not None and value < least:
            raise UsageError(f"{entry.name}: option {option} got {value!r}, expected at least {least}")
        return value


def _meant(kind: str, name: str, names: Iterable[str]) -> str:
    names = list(names)
    if name in names:
        return name
    matches = _matches(name, names)
    if len(matches) != 1:
        raise UnknownName(kind, name, names)
    return matches[0]


def _matches(name: str, names: Iterable[str]) -> list[str]:
    return [other for other in names if _folded(other) == _folded(name)]


def _folded(name: str) -> str:
    return "".join(c for c in name.lower().replace("+", "plus") if c.isalnum())


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_args(hint) and get_origin(hint) is not tuple:
        return any(_fits(value, part) for part in get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple)
    if hint is None or hint is type(None):
        return value is None
    return isinstance(value, hint) if isinstance(hint, type) else True
