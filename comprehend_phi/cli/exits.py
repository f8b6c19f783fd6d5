"""How a command ends: with an exit code, and one clear line if something was raised.

No traceback is ever shown, since it could show the text of a note.
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

import typer

from ..errors import (
    ComprehendPHIError,
    OverlappingLocationsWarning,
    PlaintextOutputWarning,
    RequestValidationError,
    mask,
)
from .output import ClosedPipe, note, retries_shown

DONE, FAILED, USAGE, PARTIAL, TIMED_OUT, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 3, 4, 130, 141


class Ended(Exception):
    """The command ends here, with an exit code and lines for the person."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code, *lines)
        self.code = code
        self.lines = lines


def interrupted(*lines: str) -> Ended:
    """Tell at once how to go on after Ctrl-C. The next Ctrl-C ends the process at once."""
    _tell(lines)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return Ended(INTERRUPTED)


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        _fill_missing_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # What a terminal cannot show is no reason to fail.
                stream.reconfigure(errors="backslashreplace")
        warnings.showwarning = _show_warning
        # The command line refuses such locations unless --allow-overlap accepts them.
        warnings.simplefilter("ignore", OverlappingLocationsWarning)
        with retries_shown():
            return _end(*_run(app, arguments))
    except KeyboardInterrupt:  # while the end was told
        return INTERRUPTED
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


def _end(code: int, lines: Sequence[str]) -> int:
    """Print how the command ended and return its exit code."""
    try:
        _tell(lines)
    except ClosedPipe:
        code = CLOSED_PIPE
    except OSError:  # stderr cannot be written either: the exit code is all that is left
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


def _tell(lines: Sequence[str]) -> None:
    for index, line in enumerate(lines):
        note(f"comprehend-phi: {line}" if index == 0 else line)


def _discard(stream: TextIO) -> None:
    """Send to nowhere what is left in the buffers of a stream that cannot be written."""
    # Python would try to write it at exit, and fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _fill_missing_streams() -> None:
    """Give a stream that the shell closed (`>&-`), which Python makes None, to nobody."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _run(app: typer.Typer, arguments: Sequence[str]) -> tuple[int, Sequence[str]]:
    try:
        code: int | None = app(arguments, prog_name="comprehend-phi", standalone_mode=False)
    except Ended as ended:
        return ended.code, ended.lines
    # SystemExit: how typer's own printing, as of help, takes a closed pipe.
    except (ClosedPipe, SystemExit):
        for stream in (sys.stdout, sys.stderr):
            _discard(stream)
        return CLOSED_PIPE, []
    except RequestValidationError as error:
        return USAGE, [_in_options(error)]
    except ComprehendPHIError as error:
        return FAILED, [str(error)]
    except PlaintextOutputWarning:
        return FAILED, [f"No job was started. {_PLAINTEXT}"]
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED, ["Interrupted"]
    except OSError as error:
        return FAILED, [os_problem(error)]
    # The command ends here: what is let through, Python prints, with the message of an error that
    # nobody foresaw.
    except Exception as error:  # noqa: BLE001 - no traceback may quote a note
        # The usage errors of click, which newer versions of typer bring along under another name.
        if (format_message := getattr(error, "format_message", None)) is not None:
            return USAGE, [_without_values(format_message(), arguments)]
        return FAILED, [f"unexpected {type(error).__name__}; this is a bug, please report it"]
    # typer turns Ctrl-C into this code, some versions of it into Abort.
    return code or DONE, ["Interrupted"] if code == INTERRUPTED else []


def os_problem(error: OSError) -> str:
    """Return what the operating system refused, and for which file."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{where}"


_PLAINTEXT = (
    "Without --kms-key the service writes its results, which quote the protected health"
    " information, in plain text."
)


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    note(f"Warning: {_PLAINTEXT if category is PlaintextOutputWarning else message}")


_OPTIONS = {
    "data_access_role_arn": "--role-arn",
    "kms_key": "--kms-key",
    "client_request_token": "--token",
    "job_id": "JOB_ID",
    "timeout": "--timeout",
    "delay": "--poll-seconds",
    "slot_timeout": "--slot-timeout",
    "min_score": "--min-score",
    "replacement": "--replacement",
}
_FILTERS = {
    "job_name": "--name",
    "job_status": "--status",
    "submit_time_before": "--before",
    "submit_time_after": "--after",
}


def _in_options(error: RequestValidationError) -> str:
    """The error with the names of options in the place of fields."""
    if error.owner in ("InputDataConfig", "OutputDataConfig"):
        argument = "SOURCE" if error.owner == "InputDataConfig" else "DESTINATION"
        return f"{argument} ({error.shape}) {error.reason}"
    names = _FILTERS if error.owner == "JobFilter" else {**_OPTIONS, "job_name": "--job-name"}
    reason = error.reason
    if error.owner == "JobFilter":
        for field, option in _FILTERS.items():
            reason = reason.replace(f"beside {field}", f"beside {option}")
    return f"{names.get(error.field, error.field)} ({error.shape}) {reason}"


def _without_values(message: str, arguments: Sequence[str]) -> str:
    """The message of click without what was typed as a value; a command's name may be shown."""
    values = [
        part for argument in arguments[1:] for part in (argument, *argument.split("=", 1)[1:])
    ]
    values = [value for value in values if not value.startswith("-")]
    for value in values:
        for form in (value, repr(value)[1:-1]):
            message = message.replace(f"'{form}'", "'***'")
    message = mask(message, values)
    return f"{message}{'' if message.endswith(('.', '?')) else '.'} Try --help."
