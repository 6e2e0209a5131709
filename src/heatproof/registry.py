"""Names to functions: methods, metrics, data sets and recipes register themselves here.

A Spec is a name with frozen options, written ``road:steps=20,fill=blur``. It is parsed once, at the edge, and is from
then on the cache key, the payload sent to workers and the label in the report.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from heatproof.errors import UnknownName, UsageError


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

        Raises: UsageError where an option lacks its ``=value``.

        >>> Spec.parse("road:steps=20").kwargs
        {'steps': 20}
        """
        if isinstance(text, Spec):
            return text
        name, _, rest = text.strip().partition(":")
        options = []
        for item in _split(rest):
            key, equals, value = item.partition("=")
            if not equals or not key.strip():
                raise UsageError(f"option {item!r} in {text!r} has no value; write name:option=value,option=value")
            options.append((key.strip().replace("-", "_"), _literal(value.strip())))
        return cls(name.strip(), tuple(sorted(options)))

    @property
    def kwargs(self) -> dict[str, Any]:
        """The options as keyword arguments."""
        return dict(self.options)

    def __str__(self) -> str:
        tail = ",".join(f"{k}={'+'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in self.options)
        return f"{self.name}:{tail}" if tail else self.name


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for i, character in enumerate(text):
        depth += character in "([{"
        depth -= character in ")]}"
        if character == "," and depth == 0:
            yield text[start:i]
            start = i + 1
    if text[start:].strip():
        yield text[start:]


def _literal(text: str) -> Any:
    lowered = text.lower()
    if lowered in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[lowered]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return tuple(_literal(part) for part in text.split("+")) if "+" in text.strip("+") else text
    return tuple(value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class Entry:
    """One registered function and what the command line, the docs and the tests need to know of it."""

    name: str
    function: Callable[..., Any]
    summary: str
    paper: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults: the keyword-only parameters that have one."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "facts":
            raise AttributeError(name)
        try:
            return self.facts[name]
        except KeyError:
            raise AttributeError(f"{self.name} declares no {name!r}") from None


class Registry:
    """A mapping of kebab-case names to entries; a name is given once.

    ``shared`` are options that every entry takes besides its own: a name and the type of its values.
    """

    def __init__(self, kind: str, *, shared: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self.shared = dict(shared or {})
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, *, paper: str = "", **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A decorator that registers a function under ``name``.

        Raises: UsageError where the name is taken, is not kebab-case, or differs from the function's own.
        """
        if name != name.lower() or "_" in name or " " in name:
            raise UsageError(f"{self.kind} name {name!r} must be kebab-case")

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            if name in self._entries:
                raise UsageError(f"{self.kind} {name!r} is registered twice")
            if function.__name__.strip("_").replace("_", "-") != name:
                raise UsageError(f"{self.kind} {name!r} must carry its function's name, got {function.__name__!r}")
            summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
            self._entries[name] = Entry(name, function, summary, paper, dict(facts))
            return function

        return register

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def spec(self, text: str | Spec) -> Spec:
        """The parsed spec, checked: the name exists and so does each option, with a value of its type.

        Raises: UnknownName, UsageError.
        """
        spec = Spec.parse(text)
        entry = self[spec.name]
        known = {**entry.options, **self.shared}
        hints = {**get_type_hints(inspect.unwrap(entry.function)), **self.shared} if spec.options else {}
        for key, value in spec.options:
            if key not in known:
                raise UnknownName(f"option of {self.kind} {spec.name!r}", key, known)
            if not _fits(value, hints.get(key, object)):
                choices = get_args(hints[key]) if get_origin(hints[key]) is Literal else ()
                named = getattr(hints[key], "__name__", None) or str(hints[key]).replace("typing.", "")
                wanted = f"one of {', '.join(map(str, choices))}" if choices else named
                raise UsageError(f"{spec.name}: option {key} got {value!r}, expected {wanted}")
            least = entry.facts.get("limits", {}).get(key)
            if least is not None and value is not None and value < least:
                raise UsageError(f"{spec.name}: option {key} got {value!r}, expected at least {least}")
        return spec


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
