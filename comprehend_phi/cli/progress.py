"""What a user sees while a command waits: the job's states, and calls that are retried."""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from .._clock import SystemClock
from .output import inform, printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

    from ..errors import ServiceError, TransportError
    from ..models import JobProperties


class WatchedClock(SystemClock):
    """The time of this machine, which also tells when the current sleep ends.

    Attributes:
        wakes: the monotonic time in seconds at which the current or last sleep ends.
    """

    wakes: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        self.wakes = self.monotonic() + seconds
        super().sleep(seconds)


class LiveDisplay(ABC):
    """Draws itself again and again on stderr while it is entered, if that is a terminal."""

    def __init__(self) -> None:
        self._live: Live | None = None

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """Return what to draw now."""

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            if not console.is_dumb_terminal:
                self._live = Live(self, console=console, transient=True)
                self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._live is not None:
            self._live.stop()


class Progress(LiveDisplay):
    """Shows a wait on stderr: a line per state and, on a terminal, a live line below them.

    Args:
        clock: the clock that the wait uses.
    """

    def __init__(self, clock: WatchedClock) -> None:
        super().__init__()
        self._clock = clock
        self._start = clock.monotonic()
        self._status = ""

    def on_poll(self, job: JobProperties) -> None:
        """Print the state of the job if it is new."""
        if job.job_status != self._status:
            self._status = str(job.job_status)
            self._print(f"{self._status} after {self._elapsed()}")

    def on_poll_error(self, error: ServiceError | TransportError) -> None:
        """Print why a poll failed. The wait continues."""
        self._print(f"Poll failed after {self._elapsed()}: {error}")

    def _print(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        else:
            inform(line)

    def __rich__(self) -> Text:
        """Return the live line."""
        from rich.text import Text

        rest = self._clock.wakes - self._clock.monotonic()
        poll = f"next poll in {rest:.0f} s" if rest > 0 else "polling"
        return Text(f"{printable(self._status)} {self._elapsed()} elapsed, {poll}".strip())

    def _elapsed(self) -> str:
        seconds = round(self._clock.monotonic() - self._start)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}"


@contextmanager
def retries_shown() -> Generator[None, None, None]:
    """Print to stderr which call is retried, why, and when, for as long as this is entered."""
    log, handler = logging.getLogger("comprehend_phi"), _RetryHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


class _RetryHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._last = self._last_advice = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record of a retry, but repeat neither a wait for a job slot nor the advice."""
        fields: dict[str, Any] = vars(record)
        what = f"{fields['operation']}: {fields['code'] or fields['reason']}"
        what += f" on attempt {fields['attempt']}"
        if fields["attempt"] is None or what == self._last:
            return
        advice: str = fields["advice"] or ""
        line = f"{what}, trying again in {fields['delay']:.2f} s."
        inform(line if advice in ("", self._last_advice) else f"{line} {advice}")
        self._last, self._last_advice = what, advice
