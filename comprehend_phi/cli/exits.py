"""How a command ends: with an exit code and, if something went wrong, one clear line on stderr.

No traceback is ever printed, because it could contain the text of a note.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import TextIO

import click
from click.shell_completion import shell_complete

from ..errors import (
    ComprehendPHIError,
    OverlappingLocationsWarning,
    PlaintextOutputWarning,
    mask,
)
from .output import ClosedPipe, inform
from .progress import retries_shown

DONE, FAILED, USAGE, PARTIAL, TIMED_OUT, INPUT_ERRORS, COSTS_MORE = range(7)
INTERRUPTED, CLOSED_PIPE = 130, 141

# For help texts. A backspace alone on its line keeps click from filling the paragraph.
EXIT_CODES = """\b
Exit codes:
    0  done
    1  failed
    2  wrong usage
    3  partial success: some files were not processed
    4  timed out
    5  the input has errors; nothing was started
    6  the job may cost more than --max-cost; nothing was started
  130  interrupted
  141  the reader of the output has closed it
"""

PROGRAM = "comprehend-phi"
# The variable with which a shell asks for completions. Its name is click's default.
COMPLETE_VARIABLE = "_COMPREHEND_PHI_COMPLETE"


class Exit(Exception):
    """Ends the command with an exit code and lines for stderr."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code, *lines)
        self.code = code
        self.lines = lines


def interrupted(*lines: str) -> Exit:
    """Print how to continue after Ctrl-C, and return the exit. The next Ctrl-C ends the process."""
    _print_ending(lines)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return Exit(INTERRUPTED)


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
        return INTERRUPTED
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
        return USAGE, (_without_values(error.format_message(), arguments),)
    except (ClosedPipe, BrokenPipeError):  # click itself prints --help
        for stream in (sys.stdout, sys.stderr):
            _discard(stream)
        return CLOSED_PIPE, ()
    except PlaintextOutputWarning:
        return FAILED, (f"No job was started. {_PLAINTEXT}",)
    except ComprehendPHIError as error:
        return FAILED, (str(error),)
    except KeyboardInterrupt:
        return INTERRUPTED, ("Interrupted",)
    except OSError as error:
        return FAILED, (os_problem(error),)
    # Python would print anything else with its traceback and its message.
    except Exception as error:  # noqa: BLE001 - either may quote a note
        return FAILED, (f"Unexpected {type(error).__name__}. This is a bug; please report it.",)


def os_problem(error: OSError) -> str:
    """Return what the operating system refused, and for which file."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{where}"


def _without_values(message: str, arguments: Sequence[str]) -> str:
    """Return a message of click without the values that were typed. It may name the command."""
    values = [
        part for argument in arguments[1:] for part in (argument, *argument.split("=", 1)[1:])
    ]
    values = [value for value in values if not value.startswith("-")]
    for value in values:
        for form in (value, repr(value)[1:-1]):
            message = message.replace(f"'{form}'", "'***'")
    message = mask(message, values)
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} Try --help."


# --- The two streams ------------------------------------------------------------------------------


def _open_missing_streams() -> None:
    """Open a stream that the shell closed (`>&-`), which Python makes None, to the null device."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _end(code: int, lines: Sequence[str]) -> int:
    """Print how the command ended, flush its output, and return its exit code."""
    try:
        _print_ending(lines)
    except ClosedPipe:
        code = CLOSED_PIPE
    except OSError:  # stderr cannot be written either: only the exit code is left
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = CLOSED_PIPE
        except OSError:
            code = code or FAILED
        else:
            continue
        _discard(stream)
    return code


def _print_ending(lines: Sequence[str]) -> None:
    for index, line in enumerate(lines):
        inform(f"{PROGRAM}: {line}" if index == 0 else line)


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
