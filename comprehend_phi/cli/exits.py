"""How a command ends: with an exit code and, if something went wrong, one clear line on stderr."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Self

from .output import inform

PROGRAM = "comprehend-phi"


class ExitCode(IntEnum):
    """How a command ended.

    Attributes:
        meaning: the description in the help texts.
    """

    meaning: str

    DONE = 0, "done"
    FAILED = 1, "failed"
    USAGE = 2, "wrong usage"
    PARTIAL = 3, "partial success: some files were not processed"
    TIMED_OUT = 4, "timed out"
    INPUT_ERRORS = 5, "the input has errors; this command started nothing"
    COSTS_MORE = 6, "the job may cost more than --max-cost; this command started nothing"
    INTERRUPTED = 130, "interrupted"
    CLOSED_PIPE = 141, "the program reading the output closed the pipe, as `head -1` does"

    def __new__(cls, value: int, meaning: str) -> Self:
        """Build a member from its value and its meaning."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code


def exit_codes_help(codes: Iterable[ExitCode]) -> str:
    """Return the end of a help text: the exit codes and what they mean."""
    # A backspace alone on its line keeps click from filling the paragraph.
    lines = (f"{code:5}  {code.meaning}\n" for code in sorted(codes))
    return "\b\nExit codes:\n" + "".join(lines)


class Exit(Exception):
    """Ends the command with an exit code and lines for stderr."""

    def __init__(self, code: ExitCode, *lines: str) -> None:
        super().__init__(code, *lines)
        self.code = code
        self.lines = lines


def interrupted(*lines: str) -> Exit:
    """Print how to continue after Ctrl-C, and return the exit. The next Ctrl-C ends the process."""
    print_ending(lines)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return Exit(ExitCode.INTERRUPTED)


def os_problem(error: OSError) -> str:
    """Return what the operating system refused, and for which file."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{where}"


def print_ending(lines: Sequence[str]) -> None:
    """Print the lines to stderr. The first one names the program."""
    for index, line in enumerate(lines):
        inform(f"{PROGRAM}: {line}" if index == 0 else line)
