"""One life of a program under test: what it shares with all others, and how it is killed.

A program may be killed at each call of `step()`, and before each request and after each response.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen
from botocore.credentials import Credentials
from botocore.exceptions import CredentialRetrievalError

from comprehend_phi import (
    ComprehendPHIError,
    InputDataConfig,
    JobFilter,
    OutputDataConfig,
    RequestValidationError,
    RetryPolicy,
)

from .evidence import Evidence
from .plan import (
    AN_HOUR,
    EXPIRED,
    LINE_BREAK,
    NO_SOURCE,
    REFUSED_CANARY,
    RETRY_OR_POLL,
    S3_BACKOFF,
    BrokenCredentials,
    Conditions,
    Interrupt,
)
from .world import EXPIRED_TOKEN, REGION, SENDER, SharedClock

# Exit codes besides 0: EX_TEMPFAIL and EX_SOFTWARE of sysexits, and a shell's code for SIGINT.
GAVE_UP, BROKEN, INTERRUPTED = 75, 70, 130

# The audit events of changes to local files. Each is a step.
_FILE_EVENTS = frozenset({"os.rename", "os.remove", "os.link", "os.mkdir", "sqlite3.connect"})

# The seconds after which SIGALRM kills an interrupted program that has not ended.
_PROMPTLY = 60


@frozen(kw_only=True)
class Life:
    """One life of a program.

    Attributes:
        kill_at: the step at which it is killed.
        defect: the promise that it breaks on purpose, so that the campaign must notice; or "".
    """

    plan: Conditions
    directory: Path
    evidence: Evidence
    session: Any
    endpoint_url: str
    kill_at: int | None
    number: int
    defect: str
    clock: Sleeper
    _sent: list[bytes] = field(factory=list[bytes])
    _steps_left: list[int] = field(factory=list[int])
    _lock: threading.Lock = field(factory=threading.Lock)

    def step(self, **_event: object) -> None:
        """Count a step and die if the plan says so."""
        with self._lock:
            if self._steps_left:
                self._steps_left[0] -= 1
                if self._steps_left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                    signal.pause()  # the signal may arrive a little later

    def die_after(self, steps: int | None) -> None:
        """Die at this step, counted from now; None means never."""
        self._steps_left[:] = [] if steps is None else [steps]

    def step_at_file_changes(self) -> None:
        """Count each change to local files as a step from now on."""

        def hook(event: str, _arguments: object) -> None:
            if event in _FILE_EVENTS:
                self.step()

        sys.addaudithook(hook)

    def note_request(self, request: Any, **_event: object) -> None:
        """Record a request before it is sent. A request with a line break cannot be sent."""
        signature = request.headers.get("Authorization", "")
        if "\n" not in (signature if isinstance(signature, str) else signature.decode("latin-1")):
            self._sent.append(request.body if isinstance(request.body, bytes) else b"")

    def was_sent(self, token: str) -> bool:
        return any(token.encode() in body for body in self._sent)

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.evidence.wrong(otherwise)

    def recall(self, name: str) -> dict[str, Any]:
        """Return what an earlier life wrote down under this name."""
        path = self.directory / f"{name}.json"
        known: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return known

    def remember(self, name: str, known: object) -> None:
        self.write(self.directory / f"{name}.json", json.dumps(known))

    def write(self, path: Path, text: str) -> None:
        """Write a file completely or not at all, even if the program is killed meanwhile."""
        new = path.with_suffix(".new")
        new.write_bytes(text.encode())
        self.step()
        new.replace(path)
        self.step()

    def ask(self, path: str) -> Any:
        """Ask the world for something that never fails, such as `STATE`."""
        connection = HTTPConnection(urlsplit(self.endpoint_url).netloc, timeout=_PROMPTLY)
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def options(self) -> dict[str, Any]:
        """Return the options of a client."""
        from botocore.config import Config

        # botocore's retries for S3 would really sleep.
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=self.plan.connections,
            user_agent_extra=f"{SENDER}{os.getpid()}",
        )
        reading: dict[str, Any] = {"s3_transport": self.plan.s3_reading, "config": config}
        if self.plan.s3_reading == "client handed in":
            reading = {"s3_client": self.session.client("s3", region_name=REGION, config=config)}
        return {
            **reading,
            "region_name": REGION,
            "endpoint_url": self.endpoint_url,
            "session": self.session,
            "retry": RetryPolicy(slot_timeout=self.plan.slot_timeout),
            "clock": self.clock,
        }

    def live(self, work: Callable[[], object]) -> int:
        """Do the work of this life and return the exit code."""
        self.evidence.watch()
        self.die_after(self.kill_at)
        random.seed(f"{self.plan.seed} {self.number}")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.clock.is_deaf = self.defect == "deaf to interrupts"
        self.clock.alarm_seconds = 1 if self.defect else _PROMPTLY
        os.environ["AWS_ENDPOINT_URL_S3"] = self.endpoint_url
        broken = self.plan.credentials[self.number : self.number + 1]
        if broken and broken[0] is not None:
            self.session._session._credentials = FailingCredentials(broken[0], self.evidence)
        self.session.events.register("before-send", self.note_request)
        self.session.events.register("before-send", self.step)
        self.session.events.register("response-received", self.step)
        try:
            ask_for_nonsense(self)
            work()
        except ComprehendPHIError as error:
            self.evidence.raised(error)
            return GAVE_UP
        except KeyboardInterrupt as error:
            self.evidence.raised(error)
            return INTERRUPTED
        except BaseException as error:
            self.evidence.raised(error)  # the campaign counts exceptions from outside this package
            raise
        return 0


class Sleeper:
    """The shared clock, with Ctrl-C during one of the sleeps of this process."""

    def __init__(self, clock: SharedClock, interrupt: Interrupt | None, evidence: Evidence) -> None:
        self._clock = clock
        self._interrupt = interrupt
        self._evidence = evidence
        self._sleeps = 0
        self.alarm_seconds = _PROMPTLY
        self.is_deaf = False

    def begin_again(self) -> None:
        """Prepare for a fork, which is not interrupted and must not wait for its parent's lock."""
        self._interrupt = None
        self._clock.begin_again()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._is_interrupted(seconds):
            with suppress(*[KeyboardInterrupt] if self.is_deaf else []):
                self._interrupt_now()
                threading.Event().wait()
            signal.pause()
        self._clock.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        if self._is_interrupted(seconds):
            self._interrupt_now()
            await asyncio.Event().wait()
        await self._clock.sleep_async(seconds)

    def _is_interrupted(self, seconds: float) -> bool:
        if self._interrupt is None:
            return False
        is_in_pool = threading.current_thread() is not threading.main_thread()
        kinds = {S3_BACKOFF if is_in_pool else RETRY_OR_POLL, AN_HOUR if seconds >= 3600 else ""}
        if self._interrupt.kind not in kinds:
            return False
        self._sleeps += 1
        return self._sleeps == self._interrupt.number

    def _interrupt_now(self) -> None:
        assert self._interrupt is not None
        self._evidence.event(self._interrupt.kind)
        signal.alarm(self.alarm_seconds)
        os.kill(os.getpid(), signal.SIGINT)


class FailingCredentials(Credentials):
    """Credentials that fail as planned."""

    def __init__(self, plan: BrokenCredentials, evidence: Evidence) -> None:
        super().__init__("testing", "testing")
        self._plan = plan
        self._evidence = evidence
        self._asked = 0

    def get_frozen_credentials(self) -> Any:
        plan, good = self._plan, super().get_frozen_credentials()
        self._asked += 1
        broken = self._asked - plan.after
        if broken < 1 or (plan.count is not None and broken > plan.count):
            return good
        self._evidence.event(plan.kind)
        if plan.kind == NO_SOURCE:
            raise CredentialRetrievalError(provider="custom-process", error_msg=REFUSED_CANARY)
        if plan.kind == EXPIRED:
            return good._replace(token=EXPIRED_TOKEN)
        assert plan.kind == LINE_BREAK
        return good._replace(access_key=f"{REFUSED_CANARY}\ntesting")


def ask_for_nonsense(life: Life) -> None:
    """Check that errors about invalid values do not quote them."""
    if life.defect == "never done":
        raise ComprehendPHIError("It gives up every time.")
    builders: tuple[Callable[[], object], ...] = (
        lambda: InputDataConfig(s3_bucket=REFUSED_CANARY),
        lambda: OutputDataConfig(s3_bucket="results", s3_key=f"{REFUSED_CANARY}//"),
        lambda: JobFilter(job_name=f"{REFUSED_CANARY}\n"),
    )
    try:
        random.choice(builders)()
    except RequestValidationError as error:
        life.evidence.raised(error)
