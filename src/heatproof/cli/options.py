"""Command-line options: those of a plan, built from its fields, and those that commands have besides."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from heatproof.cli import messages
from heatproof.pipeline.plan import Plan, configured
from heatproof.pipeline.registries import registry
from heatproof.settings import Option, options, text, typed, write

Command = Callable[..., None]
PATHS = ("FILE", "FOLDER")
OUTPUT, CONFIGURATION = "Output", "Configuration"


def _option(panel: str, metavar: str, help: str, *flags: str) -> Any:
    return typer.Option(*flags, metavar=metavar, rich_help_panel=panel, help=help)


_CONFIG = "Options of this command in a YAML file; command-line values take precedence."
_WRITE_CONFIG = "Write the options in force to a YAML file that --config takes, and stop."
Config = Annotated[Path | None, _option(CONFIGURATION, "FILE", _CONFIG)]
WriteConfig = Annotated[Path | None, _option(CONFIGURATION, "FILE", _WRITE_CONFIG)]
Out = Annotated[Path | None, _option(OUTPUT, "FOLDER", "Where results go; by default a folder in runs/.")]
Quiet = Annotated[bool, _option(OUTPUT, "", "No progress bars.", "--quiet", "-q")]


def with_plan(command: Command, settings: type[Plan], names: Sequence[str] = (), *, files: bool = False) -> Command:
    """A command that takes a plan, as one with an option for each field of the plan.

    Args:
        settings: the dataclass of the plan. names: the fields that the command offers; empty for all.
        files: whether it takes its options from a YAML file, and writes one.
    """
    fields = {name: option for name, option in options(settings).items() if not names or name in names}

    def call(config: Path | None = None, write_config: Path | None = None, **words: Any) -> None:
        values = {name: words.pop(name) for name in fields}
        values = {name: typed(fields[name], value) for name, value in values.items() if value is not None}
        plan = configured(settings, config, values)
        if write_config is None:
            command(plan, **words)
        else:
            messages.place("Configuration", write(write_config, plan))

    hints = get_type_hints(command, include_extras=True)
    kept = [_keyword(p.name, hints[p.name], p.default) for p in [*inspect.signature(command).parameters.values()][1:]]
    parameters = [*map(_parameter, fields.values()), *(_FILES if files else ()), *kept]
    vars(call).update(__signature__=inspect.Signature(parameters))
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__name__, call.__doc__ = command.__name__, command.__doc__
    return call


def _parameter(option: Option) -> inspect.Parameter:
    """A field as the parameter of a command; None stands for what is not typed."""
    declared, flags = option.setting, option.flag
    kind: Any = option.kind if option.kind in (int, float, bool) and not option.several else str
    if kind is bool:
        flags = f"{option.flag}/--no-{option.flag[2:]}"
    if declared.metavar in PATHS:
        kind = Path
    info = typer.Option(
        flags,
        metavar=declared.metavar,
        rich_help_panel=declared.panel,
        help=declared.help,
        show_default=default(option) or False,
        autocompletion=_completion(declared.names) if declared.names else None,
    )
    return _keyword(option.name, Annotated[kind | None, info])


def _keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_FILES = (_keyword("config", Config), _keyword("write_config", WriteConfig))


def default(option: Option) -> str:
    """The default of a field as it is typed; empty where it depends on the data or the model, or is a switch off."""
    if option.kind is bool:
        return option.flag if option.default else ""
    return text(option, option.default) if option.default not in (None, ()) else ""


def _completion(names: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return completions(names, incomplete)

    return complete


def completions(names: str, incomplete: str) -> list[str]:
    """What a list of names from one of the registries may go on with; the registry is loaded only here."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in registry(names) if name.startswith(last)]
