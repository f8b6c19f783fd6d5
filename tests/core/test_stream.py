"""An iterator whose step was interrupted raises an error, and does not look complete."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from typing import Any, Literal

import pytest

from comprehend_phi import ResultsError, TransportError
from comprehend_phi._stream import AsyncStream, Stream

INTERRUPTED = (
    "results: this iterator was interrupted in an earlier step, so it cannot continue (1 attempt)."
    " Begin again with a new iterator."
)


class Alarm(Exception):
    """What a signal handler raises, for example."""


def failing(error: BaseException) -> Stream[int]:
    def items() -> Generator[int, None, None]:
        yield 1
        raise error

    return Stream("results", items())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), Alarm()], ids=repr)
def test_a_stream_that_was_interrupted_does_not_end(error: BaseException) -> None:
    stream = failing(error)
    assert next(stream) == 1
    with pytest.raises(type(error)):
        next(stream)
    for _ in range(2):
        with pytest.raises(TransportError) as caught:
            next(stream)
        assert str(caught.value) == INTERRUPTED
        assert (caught.value.retryable, caught.value.outcome_unknown) == (False, False)
        assert caught.value.__context__ is None


@contextmanager
def at_end_of_send(
    outcome: Literal["c_return", "c_exception"], act: Callable[[], None]
) -> Generator[None, None, None]:
    """Call `act` once, as soon as the `send` of a generator has returned or raised."""

    def profile(_: object, event: str, called: Any) -> None:
        if event == outcome and called.__name__ == "send":
            sys.setprofile(None)
            act()

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)


def test_a_stream_that_was_interrupted_just_after_it_got_an_item_does_not_skip_the_item() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    stream = Stream("results", (number for number in range(3)))
    assert next(stream) == 0
    with pytest.raises(KeyboardInterrupt), at_end_of_send("c_return", interrupt):
        next(stream)
    with pytest.raises(TransportError) as caught:
        next(stream)
    assert str(caught.value) == INTERRUPTED


def test_a_stream_whose_error_said_what_is_missing_ends() -> None:
    stream = failing(ResultsError("something is missing"))
    assert next(stream) == 1
    with pytest.raises(ResultsError):
        next(stream)
    assert list(stream) == []


def test_a_stream_ends_after_its_last_item() -> None:
    stream = Stream("results", (number for number in range(2)))
    assert [*stream, *stream] == [0, 1]


def test_a_stream_that_was_closed_ends() -> None:
    ended: list[str] = []

    def items() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("ended")

    stream = Stream("results", items())
    assert next(stream) == 1
    stream.close()
    assert ended == ["ended"]
    assert list(stream) == []


def test_an_exception_is_raised_where_the_generator_is() -> None:
    def items() -> Generator[int, None, None]:
        try:
            yield 1
        except Alarm:
            yield 2

    stream = Stream("results", items())
    assert next(stream) == 1
    assert stream.throw(Alarm()) == 2


class Busy:
    """A stream whose first item a thread waits for. `go_on` lets the thread get it and end."""

    def __init__(self) -> None:
        self.found: list[int] = []
        waits = threading.Event()
        self._go_on = threading.Event()

        def items() -> Generator[int, None, None]:
            waits.set()
            assert self._go_on.wait(60)
            yield 1
            yield 2

        self.stream: Stream[int] = Stream("results", items())
        self._thread = threading.Thread(target=lambda: self.found.append(next(self.stream)))
        self._thread.start()
        assert waits.wait(60)

    def go_on(self) -> None:
        self._go_on.set()
        self._thread.join()


def test_a_thread_that_asks_while_another_one_waits_does_not_end_the_stream() -> None:
    busy = Busy()
    with pytest.raises(ValueError, match="already executing"):
        next(busy.stream)
    busy.go_on()
    assert [*busy.found, *busy.stream] == [1, 2]


def test_a_thread_that_asks_just_before_another_one_gets_its_item_does_not_end_the_stream() -> None:
    busy = Busy()

    with (
        pytest.raises(ValueError, match="already executing"),
        at_end_of_send("c_exception", busy.go_on),
    ):
        next(busy.stream)
    assert [*busy.found, *busy.stream] == [1, 2]


# --- Asynchronous ---------------------------------------------------------------------------------


def test_an_asynchronous_stream_that_was_cancelled_does_not_end() -> None:
    async def main() -> None:
        waits = asyncio.Event()

        async def items() -> AsyncGenerator[int, None]:
            yield 1
            waits.set()
            await asyncio.Event().wait()

        stream = AsyncStream("results", items())
        assert await anext(stream) == 1
        task = asyncio.create_task(stream.asend(None))
        await waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(2):
            with pytest.raises(TransportError) as caught:
                await anext(stream)
            assert str(caught.value) == INTERRUPTED
            assert caught.value.__context__ is None

    asyncio.run(main())


def test_an_asynchronous_stream_that_was_interrupted_does_not_end() -> None:
    async def main() -> None:
        async def items() -> AsyncGenerator[int, None]:
            yield 1
            raise Alarm

        stream = AsyncStream("results", items())
        assert await anext(stream) == 1
        with pytest.raises(Alarm):
            await anext(stream)
        with pytest.raises(TransportError) as caught:
            await anext(stream)
        assert str(caught.value) == INTERRUPTED

    asyncio.run(main())


def test_a_task_that_asks_while_another_one_waits_does_not_end_the_asynchronous_stream() -> None:
    async def main() -> None:
        waits, go_on = asyncio.Event(), asyncio.Event()

        async def items() -> AsyncGenerator[int, None]:
            waits.set()
            await go_on.wait()
            yield 1
            yield 2

        stream = AsyncStream("results", items())
        task = asyncio.create_task(stream.asend(None))
        await waits.wait()
        with pytest.raises(RuntimeError, match="already running"):
            await anext(stream)
        go_on.set()
        assert await task == 1
        assert [each async for each in stream] == [2]

    asyncio.run(main())


def test_an_asynchronous_stream_whose_error_said_what_is_missing_ends() -> None:
    async def main() -> None:
        async def items() -> AsyncGenerator[int, None]:
            yield 1
            raise ResultsError("something is missing")

        stream = AsyncStream("results", items())
        assert await anext(stream) == 1
        with pytest.raises(ResultsError):
            await anext(stream)
        assert [each async for each in stream] == []

    asyncio.run(main())


def test_an_asynchronous_stream_that_was_closed_ends() -> None:
    async def main() -> None:
        ended: list[str] = []

        async def items() -> AsyncGenerator[int, None]:
            try:
                yield 1
                yield 2
            finally:
                ended.append("ended")

        async with aclosing(AsyncStream("results", items())) as stream:
            assert await anext(stream) == 1
        assert ended == ["ended"]
        assert [each async for each in stream] == []

    asyncio.run(main())


def test_an_exception_is_raised_where_the_asynchronous_generator_is() -> None:
    async def main() -> None:
        async def items() -> AsyncGenerator[int, None]:
            try:
                yield 1
            except Alarm:
                yield 2

        stream = AsyncStream("results", items())
        assert await anext(stream) == 1
        assert await stream.athrow(Alarm()) == 2

    asyncio.run(main())
