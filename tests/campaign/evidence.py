"""Every text that the program under test produces and that somebody might see.

These are exceptions, reprs, log records, warnings and tracebacks. They are written to a file at
once, because the program may be killed at any moment.
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

from .plan import CANARIES, KEY_CANARY

WORDS = tuple(word.lower() for canary in CANARIES for word in canary.split())
_WITHOUT_KEYS = ("repr", "log record", "report")  # channels in which no key may appear


class Evidence:
    """A file of texts. Each line contains one text and the channel that it came through."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, channel: str, text: str) -> None:
        # A kill may have truncated the previous line.
        os.write(self._file, b"\n" + json.dumps([channel, text]).encode())

    def shown(self, *things: object) -> None:
        """Record how objects appear in a debugger, an f-string or a log."""
        for thing in things:
            self.add("repr", repr(thing))
            self.add("repr", str(thing))

    def event(self, what: str) -> None:
        """Count a planned event that happened."""
        self.add("event", what)

    def wrong(self, what: str) -> None:
        """Record a broken promise that the program itself noticed."""
        self.add("wrong", what)

    def raised(self, error: BaseException) -> None:
        """Record an exception with its arguments, attributes, causes and contexts."""
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
            # `from None` hides these in the traceback, but they can still be reached.
            pending += [current.__cause__, current.__context__]

    def watch(self) -> None:
        """Record all logs, warnings and unhandled errors of this process from now on."""
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
        # `format` includes exc_info. The arguments are searched as well.
        channel = "log record" if record.name == "comprehend_phi" else "log record of others"
        self._evidence.add(channel, f"{record.name} {self.format(record)} {record.args!r}")


@frozen(kw_only=True)
class Finding:
    """The result of searching the evidence.

    Attributes:
        searched: the number of texts by channel.
        sightings: the number of texts that contain a word of a canary, by channel.
        raised: the number of exceptions by class.
        untyped: tracebacks of exceptions from outside this package.
        events: how often each planned event happened.
        wrong: the broken promises that the program itself noticed.
    """

    searched: Counter[str] = field(factory=Counter[str])
    sightings: Counter[str] = field(factory=Counter[str])
    raised: Counter[str] = field(factory=Counter[str])
    untyped: list[str] = field(factory=list[str])
    events: Counter[str] = field(factory=Counter[str])
    wrong: list[str] = field(factory=list[str])


def examine(path: Path) -> Finding:
    """Search all recorded texts for canaries."""
    found = Finding()
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    for line in filter(None, lines):
        try:
            channel, text = json.loads(line)
        except json.JSONDecodeError:
            channel, text = "cut by a kill", line
        if channel == "untyped" or line.startswith('["untyped"'):
            found.untyped.append(text)
        if channel == "event":
            found.events[text] += 1
            continue
        if channel == "wrong":
            found.wrong.append(text)
            continue
        found.searched[channel] += 1
        words = (*WORDS, KEY_CANARY) if channel in _WITHOUT_KEYS else WORDS
        if any(word in text.lower() for word in words):
            found.sightings[channel] += 1
        if channel == "exception" and text.isidentifier():
            found.raised[text] += 1
    return found
