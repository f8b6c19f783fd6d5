"""Iterators that do not look complete after a step of them was interrupted.

A generator ends when an exception leaves it. If the exception comes from Ctrl-C, from a signal
handler or from the cancellation of a task, the program may catch it and go on. The next step of the
generator would then look like its regular end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from inspect import GEN_CLOSED, GEN_SUSPENDED, getgeneratorstate
from types import AsyncGeneratorType
from typing import Any, TypeVar, cast

from .errors import ComprehendPHIError, TransportError

_T = TypeVar("_T")


class Stream(Generator[_T, None, None]):
    """A generator that raises an error after an interruption instead of ending.

    Args:
        operation: what the error names.
        generator: yields the items. Its own errors are those of this package.
    """

    def __init__(self, operation: str, generator: Generator[_T, None, None]) -> None:
        self._operation = operation
        self._generator = generator
        self._interrupted = False

    def send(self, value: None, /) -> _T:
        """Return the next item.

        Raises:
            TransportError: an earlier step was interrupted.
        """
        if self._interrupted:
            raise _interruption(self._operation)
        try:
            return self._generator.send(value)
        except (StopIteration, ComprehendPHIError):
            raise
        except BaseException as error:
            state = getgeneratorstate(self._generator)
            # An interruption may come after the generator yielded an item, which is lost then. But
            # a ValueError says that another thread is in the generator, so nothing was lost.
            is_lost = state == GEN_SUSPENDED and not isinstance(error, ValueError)
            if state == GEN_CLOSED or is_lost:
                self._interrupted = True
            raise

    def throw(self, *error: Any) -> _T:
        """Raise an exception where the generator is."""
        return self._generator.throw(*error)

    def close(self) -> None:
        """End the generator."""
        self._generator.close()


class AsyncStream(AsyncGenerator[_T, None]):
    """An asynchronous generator that raises an error after an interruption instead of ending.

    Args:
        operation: what the error names.
        generator: yields the items. Its own errors are those of this package.
    """

    def __init__(self, operation: str, generator: AsyncGenerator[_T, None]) -> None:
        self._operation = operation
        self._generator = generator
        self._interrupted = False

    async def asend(self, value: None, /) -> _T:
        """Return the next item.

        Raises:
            TransportError: an earlier step was cancelled or interrupted.
        """
        if self._interrupted:
            raise _interruption(self._operation)
        try:
            return await self._generator.asend(value)
        except (StopAsyncIteration, ComprehendPHIError):
            raise
        except BaseException:
            generator = cast("AsyncGeneratorType[_T, None]", self._generator)
            # It still has a frame if another task is in the generator, so nothing was lost.
            if generator.ag_frame is None:
                self._interrupted = True
            raise

    async def athrow(self, *error: Any) -> _T:
        """Raise an exception where the generator is."""
        return await self._generator.athrow(*error)

    async def aclose(self) -> None:
        """End the generator."""
        await self._generator.aclose()


def _interruption(operation: str) -> TransportError:
    return TransportError(
        operation=operation,
        reason="this iterator was interrupted in an earlier step, so it cannot continue",
        advice="Begin again with a new iterator.",
        outcome_unknown=False,
        retryable=False,
    )
