"""The asynchronous side of AsyncPHIClient. Tests that run with both clients cover the rest."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config

from comprehend_phi import (
    AsyncJob,
    AsyncJobResults,
    AsyncPHIClient,
    ClientClosedError,
    ComprehendPHIError,
    Document,
    ExpiredTokenException,
    IncompleteResultsError,
    Job,
    JobProperties,
    JobResults,
    JobStatus,
    OutputDataConfig,
    OverlappingLocationsWarning,
    PHIClient,
    PlaintextOutputWarning,
    RequestValidationError,
    ResourceNotFoundException,
    ResultsError,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    SystemClock,
    ThrottlingException,
    TransportError,
    same_length,
)
from comprehend_phi._async_client import AsyncJob as AsyncJobOfAio
from comprehend_phi.review import Decisions, DocumentDecisions
from comprehend_phi.testing import FakeClock, Fault, LocalServer, WallClock, faults

from ..conftest import DESCRIBE, JOB_ID, START

Connect = Callable[..., AsyncPHIClient]
MakeRequest = Callable[..., StartPHIDetectionJobRequest]
_T = TypeVar("_T")
_E = TypeVar("_E", bound=ComprehendPHIError)


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end in debug mode; none of our threads is left."""
    earlier = our_threads()  # another test's, perhaps still idle
    try:
        return asyncio.run(coroutine, debug=True)
    finally:
        gc.collect()  # what was never awaited warns now
        assert our_threads() <= earlier


def our_threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("comprehend_phi")}


@pytest.fixture
def connect(server: LocalServer, clock: FakeClock, s3: Any) -> Connect:
    """Builds clients of `server` that never really sleep."""

    def build(**options: Any) -> AsyncPHIClient:
        usual: dict[str, Any] = {
            "endpoint_url": server.endpoint_url,
            "s3_client": s3,
            "clock": clock,
        }
        return AsyncPHIClient(**{**usual, **options})

    return build


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel the task, and wait for its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def results_of(
    client: AsyncPHIClient, request: StartPHIDetectionJobRequest
) -> AsyncJobResults:
    """Run a job to its end, and return its results."""
    job = await client.submit(request)
    await job.wait()
    return await job.results()


async def read_until(error: type[_E], items: AsyncIterable[_T]) -> tuple[list[_T], _E]:
    """Return the items that come before this error, and the error."""
    read: list[_T] = []

    async def reading() -> None:
        async for item in items:
            read.append(item)

    with pytest.raises(error) as caught:
        await reading()
    return read, caught.value


class ClockThatWaits(FakeClock):
    """Its asynchronous sleeps last until it is set awake, or they are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = asyncio.Semaphore(0)  # released by each sleep
        self.awake = asyncio.Event()
        self.cancelled = 0

    async def sleep_async(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.asleep.release()
        try:
            await self.awake.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


# --- The twins ------------------------------------------------------------------------------------

TWINS = ((PHIClient, AsyncPHIClient), (Job, AsyncJob), (JobResults, AsyncJobResults))


def public(cls: type) -> dict[str, Any]:
    return {name: member for name, member in vars(cls).items() if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_the_twins_have_the_same_members(sync: type, twin: type) -> None:
    assert set(public(sync)) == set(public(twin))


@pytest.mark.parametrize(("sync", "twin"), TWINS[:2])
def test_the_twins_take_the_same_arguments(sync: type, twin: type) -> None:
    for name in ("__init__", *public(sync)):
        ours, theirs = (inspect.signature(getattr(cls, name)) for cls in (sync, twin))
        assert described(ours) == described(theirs)


def described(signature: inspect.Signature) -> list[tuple[Any, ...]]:
    """The parameters; of a clock as the default, only its class."""
    return [
        (p.name, p.kind, type(p.default) if p.name == "clock" else p.default)
        for p in signature.parameters.values()
    ]


def test_methods_that_send_requests_are_coroutines() -> None:
    methods = {**public(AsyncPHIClient), **public(AsyncJob)}
    plain = {name for name, method in methods.items() if not inspect.iscoroutinefunction(method)}
    assert plain == {"job", "list_phi_detection_jobs"}


def test_aio_has_the_job_too() -> None:
    assert AsyncJobOfAio is AsyncJob


# --- A job from one end to the other --------------------------------------------------------------


def test_a_job_is_submitted_waited_for_and_read(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            job = await client.submit(request_)
            done = await job.wait()
            results = await job.results()

            assert done.job_status is JobStatus.COMPLETED
            assert results.manifest.success_files_count == 1
            assert results.unprocessed == ()
            assert [d.input_key async for d in results] == ["notes/note.txt"]
            assert [d.input_key async for d in results] == ["notes/note.txt"]  # again
            [(key, text)] = [each async for each in results.redacted(replacement="*")]
            assert (key, text) == ("notes/note.txt", "Patient: *, phone *")
            masked = [each async for each in results.redacted(replacement=same_length())]
            assert masked == [("notes/note.txt", f"Patient: {'*' * 11}, phone {'*' * 14}")]
            assert repr(job) == f"AsyncJob({job.job_id!r})"
            [(document, source)] = [each async for each in results.with_text()]
            assert source[document.entities[0].begin_offset :].startswith("Ada Example")
            decided = Decisions(
                (
                    DocumentDecisions(
                        input_key="notes/note.txt",
                        sha256=sha256(source.encode()).hexdigest(),
                        reviewed=True,
                        rejected=(document.entities[0].id,),
                        added=(),
                    ),
                )
            )
            options: Any = {"decisions": decided, "require_reviewed": True}
            [(_, text)] = [each async for each in results.redacted(**options)]
            assert text == "Patient: Ada Example, phone [PHONE_OR_FAX]"
            [(document, _)] = [each async for each in results.with_text(**options)]
            assert [entity.type for entity in document.entities] == ["PHONE_OR_FAX"]
            assert [each.job_id async for each in client.list_phi_detection_jobs()] == [job.job_id]
            assert repr(results) == f"AsyncJobResults({job.job_id!r})"
            parts = [results.part(index, 2) for index in range(2)]
            keys = [[d.input_key async for d in part] for part in parts]
            assert keys == [["notes/note.txt"], []]
            assert repr(parts[1]) == f"AsyncJobResults({job.job_id!r}).part(1, 2)"

    run(main())


def test_the_results_of_both_clients_have_the_properties_of_their_job(
    connect: Connect,
    server: LocalServer,
    clock: FakeClock,
    s3: Any,
    request_: StartPHIDetectionJobRequest,
) -> None:
    with PHIClient(endpoint_url=server.endpoint_url, s3_client=s3, clock=clock) as client:
        job = client.submit(request_)
        done = job.wait()
        assert job.results().job == done

    async def main() -> None:
        async with connect() as client:
            assert (await client.results(done.job_id)).job == done

    run(main())


def test_on_poll_may_be_a_coroutine_function_or_not(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    seen: list[JobStatus] = []

    async def tell(job: JobProperties) -> None:
        await asyncio.sleep(0)
        seen.append(job.job_status)

    async def main() -> None:
        async with connect() as client:
            await (await client.submit(request_)).wait(on_poll=tell)
            assert seen[0] == "SUBMITTED"
            assert seen[-1] == "COMPLETED"
            count = len(seen)
            [job] = [each async for each in client.list_phi_detection_jobs()]
            await client.job(job.job_id).wait(on_poll=lambda job: seen.append(job.job_status))
            assert seen[count:] == ["COMPLETED"]

    run(main())


@pytest.mark.parametrize("is_coroutine", [True, False])
def test_on_poll_error_may_be_a_coroutine_function_or_not(
    connect: Connect,
    server: LocalServer,
    request_: StartPHIDetectionJobRequest,
    is_coroutine: bool,
) -> None:
    seen: list[object] = []

    async def note_later(error: object) -> None:
        await asyncio.sleep(0)
        seen.append(type(error))

    def note(error: object) -> None:
        seen.append(type(error))

    async def main() -> None:
        async with connect(retry=RetryPolicy(max_attempts=1)) as client:
            job = await client.submit(request_)
            server.service.script(faults.passes(), faults.throttle(), operation=DESCRIBE)
            await job.wait(on_poll_error=note_later if is_coroutine else note)
            assert seen == [ThrottlingException]

    run(main())


def test_a_start_that_is_awaited_warns_at_the_line_of_the_caller(
    connect: Connect, make_request: MakeRequest
) -> None:
    source = make_request().input_data_config
    among = OutputDataConfig(s3_bucket=source.s3_bucket, s3_key=source.s3_key)
    unwise = make_request(kms_key=None, output_data_config=among)

    async def main() -> list[warnings.WarningMessage]:
        async with connect() as client:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await client.submit(unwise)
                await client.start_phi_detection_job(unwise)
        return caught

    caught = run(main())
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert {each.filename for each in caught} == {__file__}
    assert [(each.category, lines[each.lineno - 1].strip()) for each in caught] == [
        (category, f"await client.{method}(unwise)")
        for method in ("submit", "start_phi_detection_job")
        for category in (PlaintextOutputWarning, OverlappingLocationsWarning)
    ]


# --- Threads --------------------------------------------------------------------------------------


class Gate(WallClock):
    """The clock of a service whose slow answers wait until the gate is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = 0
        self.most = 0
        self._changed = threading.Condition()

    def sleep(self, seconds: float) -> None:
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
        self.open.wait(60)
        with self._changed:
            self.inside -= 1

    async def holding(self, answers: int) -> None:
        """Come back when so many answers wait, while other tasks and threads have their turn."""

        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(lambda: self.inside == answers, timeout=60)

        await asyncio.to_thread(wait)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def gated(gate: Gate) -> Iterator[LocalServer]:
    """A service that answers describes, all of them of no job, when `gate` is opened."""
    with LocalServer(clock=gate) as server:
        server.service.script(*[faults.slow(1.0)] * 50, operation=DESCRIBE)
        yield server
        gate.open.set()


async def describe(client: AsyncPHIClient) -> None:
    with pytest.raises(ResourceNotFoundException):
        await client.describe_phi_detection_job(JOB_ID)


def test_the_event_loop_runs_on_while_all_threads_wait_for_the_service(
    gate: Gate, gated: LocalServer
) -> None:
    async def main() -> None:
        async with AsyncPHIClient(endpoint_url=gated.endpoint_url) as client:
            calls = [asyncio.create_task(describe(client)) for _ in range(50)]
            # If a call blocked the loop, this would never end.
            await gate.holding(25)
            assert not any(call.done() for call in calls)
            gate.open.set()
            await asyncio.gather(*calls)

    run(main())


@pytest.mark.parametrize(
    ("config", "connections"),
    [
        (None, 25),
        (Config(connect_timeout=3), 25),
        (Config(max_pool_connections=3), 3),
        (Config(max_pool_connections=1), 1),
    ],
)
def test_as_many_calls_are_under_way_as_there_are_connections(
    gate: Gate, gated: LocalServer, config: Config | None, connections: int
) -> None:
    async def main() -> None:
        async with AsyncPHIClient(endpoint_url=gated.endpoint_url, config=config) as client:
            calls = asyncio.gather(*[describe(client) for _ in range(30)])
            await gate.holding(connections)
            gate.open.set()
            await calls

    run(main())
    assert gate.most == connections


def test_the_default_threads_of_the_loop_are_not_used(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        blocked = threading.Event()
        # These take all threads of the default executor, so a client that needed one would hang.
        taken = [asyncio.create_task(asyncio.to_thread(blocked.wait, 60)) for _ in range(40)]
        async with connect() as client:
            results = await results_of(client, request_)
            assert len([each async for each in results]) == 1
        blocked.set()
        await asyncio.gather(*taken)

    run(main())


def test_the_threads_see_the_context_variables_of_the_task(
    server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    seen: list[str] = []
    boto3_client: Any = boto3.client(
        "comprehendmedical",
        endpoint_url=server.endpoint_url,
        config=Config(retries={"total_max_attempts": 1}),
    )

    def note(**_event: Any) -> None:
        seen.append(trace.get())

    boto3_client.meta.events.register("before-send", note)

    async def main() -> None:
        async with AsyncPHIClient(client=boto3_client) as client:
            trace.set("of this task")
            await client.start_phi_detection_job(request_)

    run(main())
    boto3_client.close()
    assert seen == ["of this task"]


def test_closing_waits_for_the_running_call_without_blocking_the_loop(
    gate: Gate, gated: LocalServer
) -> None:
    async def main() -> None:
        client = AsyncPHIClient(endpoint_url=gated.endpoint_url)
        call = asyncio.create_task(describe(client))
        await gate.holding(1)
        closing = asyncio.create_task(client.close())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not closing.done()
        gate.open.set()
        await closing
        await call

    run(main())


def test_a_closed_client_refuses_calls(
    connect: Connect, server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        client = connect()
        await client.close()
        await client.close()  # a second time is harmless
        for call, operation, token in (
            (client.submit(request_), START, request_.client_request_token),
            (client.describe_phi_detection_job(JOB_ID), DESCRIBE, None),
        ):
            with pytest.raises(ClientClosedError) as caught:
                await call
            assert caught.value.operation == operation
            assert caught.value.reason == "this client is closed; build another one"
            assert caught.value.outcome_unknown is False
            assert caught.value.retryable is False
            assert caught.value.client_request_token == token

    run(main())
    assert not server.service.received


def test_a_start_that_backs_off_while_the_client_is_closed_says_what_is_known(
    connect: Connect, server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    server.service.script(faults.reset_after())

    async def main() -> None:
        clock = ClockThatWaits()
        client = connect(clock=clock)
        start = asyncio.create_task(client.start_phi_detection_job(request_))
        await clock.asleep.acquire()
        await client.close()  # ends the backoff instead of waiting for it
        with pytest.raises(ClientClosedError, match="this client is closed") as caught:
            await start
        assert caught.value.outcome_unknown
        assert caught.value.client_request_token == request_.client_request_token

    run(main())


def test_closing_the_client_ends_a_wait_that_sleeps(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        clock = ClockThatWaits()
        client = connect(clock=clock)
        job = await client.submit(request_)
        wait = asyncio.create_task(job.wait())
        await clock.asleep.acquire()
        await client.close()
        with pytest.raises(ClientClosedError):
            await wait
        assert len(clock.sleeps) == 1

    run(main())


def test_cancelling_close_does_not_cancel_the_closing(
    gate: Gate, gated: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def close(_client: object) -> None:
        closed.set()

    monkeypatch.setattr("botocore.client.BaseClient.close", close)

    async def main() -> None:
        client = AsyncPHIClient(endpoint_url=gated.endpoint_url)
        call = asyncio.create_task(describe(client))
        await gate.holding(1)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        await cancel(closing)
        assert not closed.is_set()
        gate.open.set()
        await call
        assert await asyncio.to_thread(closed.wait, 60)
        for thread in our_threads():
            await asyncio.to_thread(thread.join)

    run(main())


# --- Cancelling -----------------------------------------------------------------------------------


def test_cancelling_a_wait_takes_effect_at_once(
    connect: Connect, server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        clock = ClockThatWaits()
        async with connect(clock=clock) as client:
            job = await client.submit(request_)
            wait = asyncio.create_task(job.wait())
            await clock.asleep.acquire()
            await cancel(wait)
            assert clock.cancelled == 1
            # The job continues, and can be waited for again.
            assert (await job.properties()).job_status == "SUBMITTED"

    run(main())


def test_wait_for_ends_a_wait_with_its_own_timeout(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect(clock=ClockThatWaits()) as client:
            job = await client.submit(request_)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(job.wait(), 0.05)

    run(main())


@pytest.mark.parametrize(
    ("fault", "retry"),
    [
        (faults.throttle(), RetryPolicy()),
        (faults.job_limit(), RetryPolicy(slot_timeout=3600)),
    ],
    ids=["backoff", "job slot"],
)
def test_cancelling_what_is_between_two_attempts_takes_effect_at_once(
    connect: Connect,
    server: LocalServer,
    request_: StartPHIDetectionJobRequest,
    fault: Fault,
    retry: RetryPolicy,
) -> None:
    server.service.script(*[fault] * 8)

    async def main() -> None:
        clock = ClockThatWaits()
        async with connect(clock=clock, retry=retry) as client:
            start = asyncio.create_task(client.start_phi_detection_job(request_))
            await clock.asleep.acquire()
            await cancel(start)
        assert clock.cancelled == 1
        assert server.service.attempts(START) == 1

    run(main())


def test_a_list_whose_page_was_cancelled_does_not_look_complete(
    connect: Connect, server: LocalServer
) -> None:
    server.service.script(faults.throttle())

    async def main() -> None:
        clock = ClockThatWaits()
        async with connect(clock=clock) as client:
            jobs = client.list_phi_detection_jobs()
            page = asyncio.ensure_future(anext(jobs))
            await clock.asleep.acquire()
            await cancel(page)
            with pytest.raises(TransportError, match=r"^ListPHIDetectionJobs: .*interrupted"):
                await anext(jobs)

    run(main())


def test_a_backoff_and_a_wait_need_no_thread(
    connect: Connect, server: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        config = Config(max_pool_connections=1)
        clock = ClockThatWaits()
        async with connect(clock=clock, config=config) as client:
            job = await client.submit(request_)
            server.service.script(faults.throttle(), operation=DESCRIBE)
            asleep = [asyncio.create_task(job.properties())]
            await clock.asleep.acquire()
            asleep.append(asyncio.create_task(job.wait()))
            await clock.asleep.acquire()
            # The one thread is free for others.
            assert (await client.submit(request_)).job_id == job.job_id
            for task in asleep:
                task.cancel()
            await asyncio.wait(asleep)
            assert [task.cancelled() for task in asleep] == [True, True]

    run(main())


def test_a_call_that_is_cancelled_before_its_turn_is_not_sent(
    gate: Gate, gated: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    config = Config(max_pool_connections=1)

    async def main() -> None:
        async with AsyncPHIClient(endpoint_url=gated.endpoint_url, config=config) as client:
            first = asyncio.create_task(describe(client))
            await gate.holding(1)
            second = asyncio.create_task(client.start_phi_detection_job(request_))
            await asyncio.sleep(0)
            await cancel(second)
            gate.open.set()
            await first

    run(main())
    assert gated.service.attempts(START) == 0


def test_a_start_that_is_cancelled_while_it_is_sent_is_found_by_its_token(
    gate: Gate, gated: LocalServer, request_: StartPHIDetectionJobRequest
) -> None:
    gated.service.script(faults.slow(1.0), operation=START)

    async def main() -> None:
        async with AsyncPHIClient(endpoint_url=gated.endpoint_url) as client:
            start = asyncio.create_task(client.start_phi_detection_job(request_))
            await gate.holding(1)
            await cancel(start)
            gate.open.set()
            again = await client.start_phi_detection_job(request_)
        assert gated.service.job_ids == (again.job_id,)

    run(main())


def test_a_task_group_cancels_the_other_waits_after_an_error(
    connect: Connect, server: LocalServer, make_request: MakeRequest
) -> None:
    async def main() -> None:
        clock = ClockThatWaits()
        async with connect(clock=clock, retry=RetryPolicy(max_attempts=1)) as client:
            jobs = [await client.submit(make_request()) for _ in range(3)]

            async def fail() -> None:
                for _ in jobs:
                    await clock.asleep.acquire()
                server.service.script(faults.throttle(), operation=START)
                await client.submit(make_request())

            async def together() -> None:
                async with asyncio.TaskGroup() as group:
                    for job in jobs:
                        group.create_task(job.wait())
                    group.create_task(fail())

            with pytest.RaisesGroup(ThrottlingException):
                await together()
            assert clock.cancelled == len(jobs)

    run(main())


def test_the_clock_of_this_machine_lets_other_tasks_run_while_one_sleeps() -> None:
    order: list[str] = []

    async def sleep() -> None:
        order.append("falls asleep")
        await SystemClock().sleep_async(0.001)
        order.append("wakes up")

    async def main() -> None:
        asleep = asyncio.create_task(sleep())
        await asyncio.sleep(0)
        order.append("another runs")
        await asleep

    run(main())
    assert order == ["falls asleep", "another runs", "wakes up"]


# --- Results --------------------------------------------------------------------------------------


@pytest.fixture
def many(s3: Any, bucket: str) -> int:
    """More notes than the window of a reader holds."""
    for number in range(1, 60):
        s3.put_object(Bucket=bucket, Key=f"notes/{number}.txt", Body=b"Seen by Dr. Ada Example")
    return 60


def test_leaving_the_documents_early_ends_the_fetching(
    connect: Connect, many: int, s3: Any, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> int:
        gets: list[str] = []

        def note(params: dict[str, Any], **_event: Any) -> None:
            gets.append(params["url_path"])

        s3.meta.events.register("before-call.s3.GetObject", note)
        async with connect() as client:
            results = await results_of(client, request_)
            async with aclosing(aiter_of(results)) as documents:
                await documents.__anext__()
            begun = len(gets)
        return max(begun, len(gets))

    assert run(main()) <= 3 + 1 + 21  # the manifest and two lists; 10 connections, so 21 ahead


def aiter_of(results: AsyncJobResults) -> Any:
    return results.__aiter__()


def test_a_cancelled_reader_ends_at_once(
    connect: Connect, many: int, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            results = await results_of(client, request_)
            read: list[Document] = []
            some = asyncio.Event()

            async def reading() -> None:
                async with aclosing(aiter_of(results)) as documents:
                    async for document in documents:
                        read.append(document)
                        if len(read) > 3:
                            some.set()
                        await asyncio.sleep(0)

            task = asyncio.create_task(reading())
            await some.wait()
            await cancel(task)
            assert len(read) < many
            # And again, to the end.
            assert len([each async for each in results]) == many

    run(main())


def test_a_missing_document_is_reported_after_all_others(
    connect: Connect, many: int, s3: Any, bucket: str, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            results = await results_of(client, request_)
            [lost] = [d.output_key async for d in results if d.input_key == "notes/7.txt"]
            s3.delete_object(Bucket=bucket, Key=lost)
            read, error = await read_until(IncompleteResultsError, results)
            assert len(read) == many - 1
            assert lost in str(error)

    run(main())


def test_notes_that_cannot_be_delivered_are_left_out_and_reported(
    connect: Connect, many: int, s3: Any, bucket: str, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            results = await results_of(client, request_)
            s3.delete_object(Bucket=bucket, Key="notes/7.txt")
            s3.put_object(Bucket=bucket, Key="notes/9.txt", Body=b"\xff")
            read, error = await read_until(IncompleteResultsError, results.redacted())
            assert len(read) == many - 2
            assert error.failed.keys() == {"notes/7.txt", "notes/9.txt"}

    run(main())


def test_an_error_that_concerns_all_notes_ends_the_reading(
    connect: Connect,
    many: int,
    s3: Any,
    bucket: str,
    refuse: Callable[..., None],
    request_: StartPHIDetectionJobRequest,
) -> None:
    async def main() -> None:
        async with connect() as client:
            results = await results_of(client, request_)
            first, *_, last = [document.input_key async for document in results]
            s3.delete_object(Bucket=bucket, Key=first)
            refuse(last, status=400, code="ExpiredToken")
            read, error = await read_until(ExpiredTokenException, results.redacted())
            assert len(read) == many - 2
            assert error.undelivered == 2
            assert error.failed.keys() == {first}

    run(main())


def test_a_note_that_was_replaced_by_one_of_the_same_size_is_left_out_and_reported(
    connect: Connect, s3: Any, bucket: str, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            s3.put_object(Bucket=bucket, Key="notes/blank.txt", Body=b"To be dictated later.\n")
            results = await results_of(client, request_)
            s3.put_object(Bucket=bucket, Key="notes/blank.txt", Body=b"Patient: Noor Sample.\n")
            for read in (results.with_text, results.redacted):
                _, error = await read_until(IncompleteResultsError, read())
                assert error.failed.keys() == {"notes/blank.txt"}
                assert "Noor" not in repr(error.__dict__)

    run(main())


# What becomes of one of the files of a job; `None` deletes it.
DAMAGE: dict[str, tuple[str, bytes | None]] = {
    "nothing": ("no such file", None),
    "document missing": ("7.txt.out", None),
    "document empty": ("7.txt.out", b""),
    "document cut": ("7.txt.out", b'{"Entities": [{"Text": "Zinnia Quellwasser'),
    "document not UTF-8": ("7.txt.out", b'{"Entities": [], "Zinnia Quellwasser": "\xff"}'),
    "document of another form": ("7.txt.out", b'{"Entities": "Zinnia Quellwasser"}'),
    "entities of another text": (
        "7.txt.out",
        b'{"Entities": [{"Id": 0, "BeginOffset": 0, "EndOffset": 6, "Score": 1.0, "Text": "Zinnia",'
        b' "Category": "PROTECTED_HEALTH_INFORMATION", "Type": "NAME", "Traits": []}]}',
    ),
    "source missing": ("notes/7.txt", None),
    "source not UTF-8": ("notes/7.txt", b"Zinnia Quellwasser \xff"),
    "manifest missing": ("Manifest", None),
    "manifest not JSON": ("Manifest", b"Zinnia Quellwasser"),
    "list missing": ("/success/", None),
    "list of another form": ("/success/", b'{"Files": "Zinnia Quellwasser"}'),
    "list too short": ("/success/", b'{"Files": []}'),
}


def told(error: ComprehendPHIError) -> tuple[object, ...]:
    assert error.__cause__ is error.__context__ is None
    assert "Zinnia" not in repr(error) + str(error)
    return type(error), str(error)


def outcomes(results: Callable[[], JobResults]) -> list[object]:
    """What reading and redacting come to: all that was read, and how it ended."""
    seen: list[object] = []
    for read in (iter, JobResults.with_text, JobResults.redacted):
        try:
            seen.extend(read(results()))
        except ComprehendPHIError as error:
            seen.append(told(error))
    return seen


async def outcomes_async(results: Callable[[], Awaitable[AsyncJobResults]]) -> list[object]:
    """The same of the other client."""
    seen: list[object] = []
    for read in (
        AsyncJobResults.__aiter__,
        AsyncJobResults.with_text,
        AsyncJobResults.redacted,
    ):
        try:
            async for item in read(await results()):
                seen.append(item)
        except ComprehendPHIError as error:
            seen.append(told(error))
    return seen


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_have_the_same_outcome_with_both_clients(
    damage: str,
    connect: Connect,
    server: LocalServer,
    clock: FakeClock,
    s3: Any,
    bucket: str,
    make_request: MakeRequest,
) -> None:
    for number in (7, 8):
        s3.put_object(Bucket=bucket, Key=f"notes/{number}.txt", Body=b"Seen by Dr. Ada Example")
    with PHIClient(endpoint_url=server.endpoint_url, s3_client=s3, clock=clock) as client:
        job = client.submit(make_request())
        job.wait()
        name, content = DAMAGE[damage]
        for listed in s3.list_objects_v2(Bucket=bucket)["Contents"]:
            key = listed["Key"]
            if not key.endswith(name) and not (name.startswith("/") and name in key):
                continue
            if content is None:
                s3.delete_object(Bucket=bucket, Key=key)
            else:
                s3.put_object(Bucket=bucket, Key=key, Body=content)
        expected = outcomes(job.results)

    async def main() -> list[object]:
        async with connect() as client:
            return await outcomes_async(client.job(job.job_id).results)

    assert run(main()) == expected
    assert any(isinstance(each, tuple) and isinstance(each[0], type) for each in expected) == (
        damage != "nothing"
    )


def test_results_are_returned_with_their_manifest_loaded(
    connect: Connect, s3: Any, bucket: str, request_: StartPHIDetectionJobRequest
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/bad.txt", Body=b"\xff\xfe")
    asked: list[str] = []

    def note(event_name: str, **_event: Any) -> None:
        asked.append(event_name)

    s3.meta.events.register("before-call.s3", note)

    async def main() -> None:
        async with connect() as client:
            results = await results_of(client, request_)
            before = len(asked)
            # These are properties. If they asked S3, they would block the event loop.
            assert results.manifest.unprocessed_files_count == 1
            assert [file.input_key for file in results.unprocessed] == ["notes/bad.txt"]
            assert len(asked) == before

    run(main())


def test_results_without_a_manifest_are_not_returned(
    connect: Connect, s3: Any, bucket: str, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            job = await client.submit(request_)
            manifest = (await job.wait()).manifest_file_path
            for listed in s3.list_objects_v2(Bucket=bucket)["Contents"]:
                if listed["Key"].endswith(str(manifest)):
                    s3.delete_object(Bucket=bucket, Key=listed["Key"])
            with pytest.raises(ResultsError):
                await job.results()

    run(main())


def test_a_missing_list_of_unprocessed_files_raises_when_it_is_used(
    connect: Connect, s3: Any, bucket: str, request_: StartPHIDetectionJobRequest
) -> None:
    s3.put_object(Bucket=bucket, Key="notes/bad.txt", Body=b"\xff\xfe")

    async def main() -> None:
        async with connect() as client:
            job = await client.submit(request_)
            assert (await job.wait()).job_status is JobStatus.PARTIAL_SUCCESS
            [lost] = [
                each["Key"]
                for each in s3.list_objects_v2(Bucket=bucket)["Contents"]
                if "/failed/" in each["Key"]
            ]
            body = s3.get_object(Bucket=bucket, Key=lost)["Body"].read()
            s3.delete_object(Bucket=bucket, Key=lost)
            results = await job.results()
            # Results do not change after they were loaded, even if S3 does.
            s3.put_object(Bucket=bucket, Key=lost, Body=body)
            for _ in range(2):
                with pytest.raises(IncompleteResultsError):
                    _ = results.unprocessed
            assert len((await job.results()).unprocessed) == 1

    run(main())


def test_results_of_a_job_that_runs_are_refused(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            job = await client.submit(request_)
            with pytest.raises(ResultsError, match="wait until it has ended"):
                await job.results()

    run(main())


def test_a_bad_mark_is_refused_before_anything_is_read(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            results = await results_of(client, request_)
            with pytest.raises(RequestValidationError):
                results.redacted(replacement="{name}")

    run(main())


def test_wrong_decisions_are_refused_before_anything_is_read(
    connect: Connect, request_: StartPHIDetectionJobRequest
) -> None:
    async def main() -> None:
        async with connect() as client:
            results = await results_of(client, request_)
            with pytest.raises(RequestValidationError) as caught:
                results.with_text(decisions=())  # type: ignore[arg-type]
            assert (caught.value.owner, caught.value.field) == ("with_text", "decisions")

    run(main())


@pytest.fixture
def nowhere() -> Iterator[Any]:
    """A boto3 client for an S3 that cannot be reached."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client: Any = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def test_closing_ends_the_reading_that_backs_off_with_any_clock(
    connect: Connect, request_: StartPHIDetectionJobRequest, nowhere: Any, stubborn: Any
) -> None:
    async def main() -> None:
        async with connect() as client:
            job = await client.submit(request_)
            await job.wait()
        client = connect(clock=stubborn, s3_client=nowhere)
        reading = asyncio.create_task(client.results(job.job_id))
        await asyncio.to_thread(stubborn.asleep.wait, 60)
        await client.close()
        with pytest.raises(ClientClosedError, match="this client is closed") as caught:
            await reading
        assert caught.value.outcome_unknown is False
        stubborn.wake()

    run(main())


# --- Whole programs -------------------------------------------------------------------------------

FLAGS = ("-W", "error", "-X", "dev")
PROGRAM = """
import asyncio, sys
from comprehend_phi import (
    AsyncPHIClient, InputDataConfig, OutputDataConfig, StartPHIDetectionJobRequest, WaitPolicy
)

async def main(url, bucket):
    # A slow machine is no failure.
    asyncio.get_running_loop().slow_callback_duration = 60
    request = StartPHIDetectionJobRequest(
        input_data_config=InputDataConfig(s3_bucket=bucket, s3_key="notes"),
        output_data_config=OutputDataConfig(s3_bucket=bucket, s3_key="results"),
        data_access_role_arn="arn:aws:iam::123456789012:role/reads-notes",
        kms_key="alias/notes",
    )
    async with AsyncPHIClient(endpoint_url=url) as client:
        job = await client.submit(request)
        done = await job.wait(WaitPolicy(delay=0.05))
        print(done.job_status, [d.input_key async for d in await job.results()])

asyncio.run(main(*sys.argv[1:]), debug=True)
"""


def test_a_program_ends_quietly_in_debug_mode_with_warnings_as_errors() -> None:
    with LocalServer(job_seconds=0.1) as server:
        server.storage.create_bucket("bucket")
        server.storage.write("bucket", "notes/note.txt", b"Patient: Ada Example")
        done = subprocess.run(
            [sys.executable, *FLAGS, "-c", PROGRAM, server.endpoint_url, "bucket"],
            env={**os.environ, "AWS_ENDPOINT_URL_S3": server.endpoint_url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout == "COMPLETED ['notes/note.txt']\n"
    assert done.returncode == 0
