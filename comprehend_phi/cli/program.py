"""Running a command: whatever it raises becomes an exit code and lines on stderr.

No traceback is ever printed, because it could contain the text of a note.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import click
from click.shell_completion import shell_complete

from ..errors import ComprehendPHIError, OverlappingLocationsWarning, PlaintextOutputWarning
from .exits import PROGRAM, Exit, ExitCode, os_problem, print_ending
from .options import label
from .output import ClosedPipe, inform
from .progress import retries_shown

# The variable with which a shell asks for completions. Its name is click's default.
COMPLETE_VARIABLE = "_COMPREHEND_PHI_COMPLETE"


def run(app: click.Group, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        _open_missing_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Printing must not fail because of a character that a terminal cannot show.
                stream.reconfigure(errors="backslashreplace")
        warnings.showwarning = _show_warning
        # The command line refuses such locations unless --allow-overlap accepts them.
        warnings.simplefilter("ignore", OverlappingLocationsWarning)
        with retries_shown():
            code, lines = _run(app, arguments)
            return _end(code, lines)
    except KeyboardInterrupt:  # while the ending was printed
        return ExitCode.INTERRUPTED
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


def _run(app: click.Group, arguments: Sequence[str]) -> tuple[int, Sequence[str]]:
    try:
        if instruction := os.environ.get(COMPLETE_VARIABLE):
            return shell_complete(app, {}, PROGRAM, COMPLETE_VARIABLE, instruction), ()
        # Not `app.main`, which prints a line of its own after Ctrl-C.
        with app.make_context(PROGRAM, list(arguments)) as context:
            return app.invoke(context), ()
    except Exit as end:
        return end.code, end.lines
    except click.exceptions.Exit as end:  # --help and --version
        return end.exit_code, ()
    except click.ClickException as error:
        problem = _wrong_usage(error)
        # A message of click ends with a full stop, with a hint ("Did you mean '--json'?") or, in
        # older versions, with neither.
        full_stop = "" if problem.endswith((".", "?", ")")) else "."
        return ExitCode.USAGE, (f"{problem}{full_stop} Try --help.",)
    except (ClosedPipe, BrokenPipeError):  # click itself prints --help
        for stream in (sys.stdout, sys.stderr):
            _discard(stream)
        return ExitCode.CLOSED_PIPE, ()
    except PlaintextOutputWarning:
        return ExitCode.FAILED, (f"No job was started. {_PLAINTEXT}",)
    except ComprehendPHIError as error:
        return ExitCode.FAILED, (str(error),)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED, ("Interrupted",)
    except OSError as error:
        return ExitCode.FAILED, (os_problem(error),)
    # Python would print anything else with its traceback and its message.
    except Exception as error:  # noqa: BLE001 - a traceback may quote a note
        return ExitCode.FAILED, (
            f"Unexpected {type(error).__name__}. This is a bug; please report it.",
        )


def _wrong_usage(error: click.ClickException) -> str:
    """Return what was wrong with the command line, without anything that was typed.

    click's own messages quote values, so only those that cannot are passed on.
    """
    match error:
        case click.NoSuchOption(option_name=name) if re.fullmatch("--[a-z-]+", name):
            return error.format_message()
        case click.NoSuchOption():
            return "No such option."
        case click.BadOptionUsage():  # a value is missing, or the option takes none
            return error.format_message()
        case click.MissingParameter(param=click.Parameter() as parameter):
            return f"Missing {parameter.param_type_name} '{label(parameter)}'."
        case click.BadParameter(param=click.Parameter(type=click.Choice(choices=choices)) as it):
            return f"Invalid value for '{label(it)}': it must be one of {', '.join(choices)}."
        case click.BadParameter(param=click.Parameter() as parameter):
            return f"Invalid value for '{label(parameter)}': it must be a number."
        case _:
            return "Wrong usage."


# --- The two streams ------------------------------------------------------------------------------


def _open_missing_streams() -> None:
    """Open a stream that the shell closed (`>&-`), which Python makes None, to the null device."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _end(code: int, lines: Sequence[str]) -> int:
    """Print how the command ended, flush its output, and return its exit code."""
    try:
        print_ending(lines)
    except ClosedPipe:
        code = ExitCode.CLOSED_PIPE
    except OSError:  # stderr cannot be written either: only the exit code is left
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = ExitCode.CLOSED_PIPE
        except OSError:
            code = code or ExitCode.FAILED
        else:
            continue
        _discard(stream)
    return code


def _discard(stream: TextIO) -> None:
    """Connect a stream that cannot be written to the null device.

    Otherwise Python would try to write the rest of its buffer at exit, and fail again.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


_PLAINTEXT = (
    "Without --kms-key, the service writes its results in plain text. They quote the protected"
    " health information."
)


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    inform(f"Warning: {_PLAINTEXT if category is PlaintextOutputWarning else message}")
