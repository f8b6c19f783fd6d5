"""How a command ends: with an exit code and, if something went wrong, one clear line on stderr."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence

from .output import inform

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


class Exit(Exception):
    """Ends the command with an exit code and lines for stderr."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code, *lines)
        self.code = code
        self.lines = lines


def interrupted(*lines: str) -> Exit:
    """Print how to continue after Ctrl-C, and return the exit. The next Ctrl-C ends the process."""
    print_ending(lines)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return Exit(INTERRUPTED)


def os_problem(error: OSError) -> str:
    """Return what the operating system refused, and for which file."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{where}"


def print_ending(lines: Sequence[str]) -> None:
    """Print the lines to stderr. The first one names the program."""
    for index, line in enumerate(lines):
        inform(f"{PROGRAM}: {line}" if index == 0 else line)
