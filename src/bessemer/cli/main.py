"""The command line. Thin: every verb is a request to the control API; `up` and `worker` run the processes.

Importing this module loads neither torch nor the web framework. A wrong command ends with one line on standard error
and exit code 2.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated

import typer
from typer.exceptions import TyperException

from bessemer.cli import (
    audit,
    cascades,
    datasets,
    evaluations,
    feedback,
    files,
    graders,
    jobs,
    keys,
    ladders,
    plan,
    processes,
    registry,
)
from bessemer.cli.demo.command import demo
from bessemer.cli.erasure import erase
from bessemer.cli.options import Data, Session
from bessemer.cli.output import ErrorKind, kind_of, show_error
from bessemer.client import Unreachable
from bessemer.core.errors import BessemerError, ConfigError, refusal
from bessemer.core.scrub import scrub
from bessemer_planner.errors import PlannerError

app = typer.Typer(
    name="bessemer",
    help="An open AI factory that an organisation runs inside its own boundary.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - the form of an option's callback
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"bessemer {version('bessemer')}\n")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option("--url", help="The server; default: BESSEMER_URL, then the data folder's.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="API key; default: BESSEMER_API_KEY, then the data folder's admin key.")
    ] = None,
    data: Data = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """An open AI factory that an organisation runs inside its own boundary."""
    context.obj = Session(url, key, data)


processes.register(app)
app.command()(demo)
app.command()(erase)
app.command()(ladders.ladder)
registry.register(app)
for name, group in (
    ("files", files.app),
    ("jobs", jobs.app),
    ("feedback", feedback.app),
    ("graders", graders.app),
    ("dataset", datasets.app),
    ("eval", evaluations.app),
    ("cascade", cascades.app),
    ("ladders", ladders.app),
    ("keys", keys.app),
    ("audit", audit.app),
    ("plan", plan.app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Run the command line; the exit code is 0, or 2 with one line on standard error."""
    sys.excepthook = _uncaught
    code = run(sys.argv[1:])
    try:
        sys.stderr.flush()
    except OSError:
        # The disk of the log is full: what it did not take must not turn the exit code into Python's own 120, which
        # would say that rows are lost.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(code)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write a defect's traceback, without what looks like a key."""
    sys.stderr.write(scrub("".join(traceback.format_exception(kind, error, trace))))


def run(arguments: list[str]) -> int:
    """Run a command line given as a list and return the exit code."""
    as_json = "--json" in arguments
    try:
        _check_text(arguments)
        result = app(args=arguments, prog_name="bessemer", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):  # typer's own: Ctrl-C or Ctrl-D at a question
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if type(error).__name__ == "NoArgsIsHelpError":  # a bare group: its message is its help
            sys.stdout.write(message + "\n")
            return 0
        if message.strip():
            show_error(message, type(error).__name__, ErrorKind.USAGE, None, as_json=as_json)
    except (BessemerError, PlannerError) as error:
        known = refusal(error.message, param=error.param, code=error.code) if isinstance(error, PlannerError) else error
        remedy = " Another address: --url." if isinstance(known, Unreachable) else ""
        show_error(known.message + remedy, type(known).__name__, kind_of(known), known.status, as_json=as_json)
    except OSError as error:
        if error.filename is None:
            raise
        # Any verb may be given a path that the system refuses; those that know its option have named it already.
        message = f"{str(error.filename)!r}: {error.strerror}; give another path, or mend this one."
        show_error(message, type(error).__name__, ErrorKind.INVALID, None, as_json=as_json)
    else:
        return result if isinstance(result, int) else 0
    return 2


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8: neither a URL nor JSON can carry them. Raises ConfigError."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"The argument {argument!r} is not UTF-8; write it in UTF-8.") from None
