"""The command line: a thin call of `heatproof.pipeline` a command; torch is loaded when a command needs it.

options     the options of a plan, built from its fields
commands    run, train, evaluate, explain, study, report, compare
catalogues  list, data fetch
export      export
messages    lines, notes and errors
progress    progress bars
tables      tables, and those of registries, classifiers and maps
judgement   what a study shows
comparison  what a comparison shows
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from heatproof.cli import catalogues, commands, export, messages
from heatproof.errors import HeatproofError, Interrupted


class _Commands(TyperGroup):
    """Turns Ctrl-C into an error of heatproof, before Typer exits without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted("stopped") from error


app = typer.Typer(
    name="heatproof",
    cls=_Commands,
    help="Train or load a classifier, explain it, and prove which of its heatmaps can be trusted.",
    epilog="Example: heatproof run   (MNIST-1D from training to a judged explanation, in about a minute)",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands.add(app)
export.add(app)
catalogues.add(app)


def _show_version(wanted: bool) -> bool:
    if wanted:
        from heatproof.version import __version__

        messages.say(f"heatproof {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", metavar="", help="Print the version and stop.", is_eager=True, callback=_show_version
    ),
    debug: bool = typer.Option(
        False, "--debug", metavar="", help="Show the traceback of an error; may stand after any command."
    ),
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one command: 0, 1 where something failed, 2 where the call was wrong.

    Errors are one line on stderr; with ``--debug`` they come with their traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    with messages.notes(debug=debug):
        try:
            return int(app(words, prog_name="heatproof", standalone_mode=False) or 0)
        except BrokenPipeError:
            return 1
        except Exception as failure:  # the last stop: whatever went wrong becomes one line
            error: Any = failure
            if _usage(error) and not error.format_message().strip():  # a group without a command: Typer's help
                error.show()
                return 2
            if debug and not _usage(error):
                messages.traceback()
            messages.error(_line(error, words))
            return int(getattr(error, "exit_code", 1))


def _usage(error: Any) -> bool:
    return hasattr(error, "format_message")


def _line(error: Any, words: Sequence[str]) -> str:
    if _usage(error):
        return messages.usage(error)
    if isinstance(error, Interrupted):
        return f"{error}{messages.resume(words)}"
    if isinstance(error, HeatproofError):
        return str(error)
    if isinstance(error, OSError):
        return messages.disk(error)
    if isinstance(error, MemoryError):
        return "out of memory; explain fewer samples with --limit"
    first = next(iter(str(error).strip().splitlines()), "")
    return f"unexpected {type(error).__name__}: {first}; run it again with --debug for the traceback"
