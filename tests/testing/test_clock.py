"""`FakeClock` and `WallClock`."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

from comprehend_phi.testing import FakeClock, WallClock


def test_a_fake_clock_only_advances_when_somebody_sleeps(clock: FakeClock) -> None:
    assert (clock.monotonic(), clock.now()) == (clock.monotonic(), clock.now())
    begin = clock.now()
    clock.sleep(86_400)
    assert clock.monotonic() == 86_400
    assert clock.now() - begin == timedelta(days=1)


def test_a_fake_clock_starts_at_a_chosen_time() -> None:
    assert FakeClock().now().utcoffset() == timedelta(0)
    moment = datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    clock = FakeClock(moment)
    clock.sleep(1.5)
    assert clock.now() == moment + timedelta(seconds=1.5)


def test_a_fake_clock_records_every_sleep(clock: FakeClock) -> None:
    clock.sleep(1)
    clock.sleep(0.0)
    asyncio.run(clock.sleep_async(2.5))
    assert clock.sleeps == [1, 0.0, 2.5]
    assert clock.monotonic() == 3.5


def test_other_tasks_run_while_one_sleeps_on_a_fake_clock(clock: FakeClock) -> None:
    happened: list[str] = []

    async def sleeper(name: str) -> None:
        for number in range(2):
            happened.append(f"{name}{number}")
            await clock.sleep_async(10)

    async def both() -> None:
        await asyncio.gather(sleeper("a"), sleeper("b"))

    asyncio.run(both())
    assert happened == ["a0", "b0", "a1", "b1"]
    assert clock.monotonic() == 40


def test_a_fake_clock_counts_the_sleeps_of_all_threads(clock: FakeClock) -> None:
    def sleep_often(_: int) -> None:
        for _ in range(2000):
            clock.sleep(1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # switch threads as often as possible
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(sleep_often, range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert clock.monotonic() == len(clock.sleeps) == 16_000


def test_the_wall_clock_returns_the_time_of_the_machine() -> None:
    before = datetime.now(UTC)
    assert before <= WallClock().now() <= datetime.now(UTC)
