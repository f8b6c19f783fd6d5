"""What the program under test shows of itself, written down at once, since it may be killed.

All of it is text that somebody might see: exceptions, reprs, log records, warnings, tracebacks.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from attrs import field, frozen

from comprehend_phi import ComprehendPHIError

from .plan import CANARIES

_WORDS = tuple(word.lower() for canary in CANARIES for word in canary.split())


class Evidence:
    """Appends to a file; each line is one text and the channel that it came through."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, channel: str, text: str) -> None:
        # The line before may have been cut short, with the program that wrote it.
        os.write(self._file, b"\n" + json.dumps([channel, text]).encode())

    def shown(self, *things: object) -> None:
        """What these look like in a debugger, an f-string or a log."""
        for thing in things:
            self.add("repr", repr(thing))
            self.add("repr", str(thing))

    def event(self, what: str) -> None:
        """Count something that happened as the plan has it."""
        self.add("event", what)

    def wrong(self, what: str) -> None:
        """Something that may not be, as far as the program can see."""
        self.add("wrong", what)

    def raised(self, error: BaseException) -> None:
        """An exception with all that hangs on it."""
        if not isinstance(error, (ComprehendPHIError, KeyboardInterrupt)):
            self.add("untyped", "".join(traceback.format_exception(error)))
        pending: list[BaseException | None] = [error]
        seen: set[int] = set()
        while pending:
            current = pending.pop()
            if current is None or id(current) in seen:
                continue
            seen.add(id(current))
            self.add("exception", type(current).__name__)
            for part in (str(current), repr(current), repr(current.args), repr(vars(current))):
                self.add("exception", part)
            self.add("traceback", "".join(traceback.format_exception(current)))
            # Those that `from None` hides in the traceback are still there for who looks.
            pending += [current.__cause__, current.__context__]

    def watch(self) -> None:
        """From now on, everything that this process logs, warns of or fails with elsewhere."""
        logging.captureWarnings(capture=False)
        root = logging.getLogger()
        root.handlers[:] = [_Handler(self)]
        root.setLevel(logging.DEBUG)
        warnings.simplefilter("always")

        def show(
            message: Warning | str, category: type[Warning], *_where: Any, **_more: Any
        ) -> None:
            self.add("warning", f"{category.__name__}: {message} {message!r}")

        def fail(raised: Any) -> None:
            if raised.exc_value is not None:
                self.raised(raised.exc_value)

        warnings.showwarning = show
        sys.unraisablehook = fail
        threading.excepthook = fail


class _Handler(logging.Handler):
    def __init__(self, evidence: Evidence) -> None:
        super().__init__(logging.DEBUG)
        self._evidence = evidence

    def emit(self, record: logging.LogRecord) -> None:
        # The handler formats exc_info as well; arguments are looked at as they are, too.
        channel = "log record" if record.name == "comprehend_phi" else "log record of others"
        self._evidence.add(channel, f"{record.name} {self.format(record)} {record.args!r}")


@frozen(kw_only=True)
class Finding:
    """What a file of evidence comes to.

    Attributes:
        looked_at: texts by channel.
        sightings: those with a word of a canary, by channel.
        raised: exceptions by class.
        untyped: tracebacks of exceptions that are not ours.
        events: how often something happened as the plan has it.
        wrong: what the program itself saw go wrong.
    """

    looked_at: Counter[str] = field(factory=Counter[str])
    sightings: Counter[str] = field(factory=Counter[str])
    raised: Counter[str] = field(factory=Counter[str])
    untyped: list[str] = field(factory=list[str])
    events: Counter[str] = field(factory=Counter[str])
    wrong: list[str] = field(factory=list[str])


def examine(path: Path) -> Finding:
    """Look for canaries in all that was written down."""
    found = Finding()
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    for line in filter(None, lines):
        try:
            channel, text = json.loads(line)
        except json.JSONDecodeError:
            channel, text = "cut short by a kill", line
        if channel == "untyped" or line.startswith('["untyped"'):
            found.untyped.append(text)
        if channel == "event":
            found.events[text] += 1
            continue
        if channel == "wrong":
            found.wrong.append(text)
            continue
        found.looked_at[channel] += 1
        if any(word in text.lower() for word in _WORDS):
            found.sightings[channel] += 1
        if channel == "exception" and text.isidentifier():
            found.raised[text] += 1
    return found
