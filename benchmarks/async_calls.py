"""How long many asynchronous calls take, and how long they block the event loop.

50 calls in 25 threads to a service that takes 0.2 s for each call need at least 0.4 s. As in
call_cost.py, a handler of botocore's `before-send` event replaces the network. It sleeps like the
service would, so signing and decoding are included.

For comparison, the same threads only sleep. Meanwhile a heartbeat in the event loop measures how
late it is, and each round reports the longest delay. Delays without any of our calls come from the
machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import boto3
from _canned import CannedResponse
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from comprehend_phi import AsyncPHIClient

ROUNDS = 20
WARM_UPS = 2
CALLS, THREADS, SERVICE_SECONDS = 50, 25, 0.2
HEARTBEAT_SECONDS = 0.001
BEST = CALLS / THREADS * SERVICE_SECONDS
LATE_AT_MOST = 0.020
OURS, SLEEPING, IDLE = "AsyncPHIClient", "threads that sleep", "an idle loop"

JOB_ID = "0123456789abcdef0123456789abcdef"
ANSWER = CannedResponse(
    {"ComprehendMedicalAsyncJobProperties": {"JobId": JOB_ID, "JobStatus": "IN_PROGRESS"}}
)

Round = Callable[[], Awaitable[object]]


def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
    """Respond to `before-send` like a slow service."""
    time.sleep(SERVICE_SECONDS)
    return ANSWER(request)


async def heartbeat(late: list[float]) -> None:
    """Record the delay of each beat in seconds."""
    while True:
        due = time.perf_counter() + HEARTBEAT_SECONDS
        await asyncio.sleep(HEARTBEAT_SECONDS)
        late.append(time.perf_counter() - due)


async def measured(calls: Round) -> tuple[float, float]:
    """Return the seconds of a round and the longest delay of the heartbeat in seconds."""
    late: list[float] = []
    beating = asyncio.create_task(heartbeat(late))
    await asyncio.sleep(2 * HEARTBEAT_SECONDS)
    began = time.perf_counter()
    await calls()
    took = time.perf_counter() - began
    await asyncio.sleep(2 * HEARTBEAT_SECONDS)
    beating.cancel()
    return took, max(late)


async def main() -> None:
    """Measure and print the results."""
    # Any, because the stubs only know some services and no return values of event handlers.
    session: Any = boto3.Session("AKIDEXAMPLE", "no secret, an example", region_name="us-east-1")
    session.events.register("before-send.comprehendmedical", answer)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(THREADS) as pool:
        async with AsyncPHIClient(session=session) as client:

            async def ours() -> None:
                await asyncio.gather(
                    *[client.describe_phi_detection_job(JOB_ID) for _ in range(CALLS)]
                )

            async def sleeping() -> None:
                await asyncio.gather(
                    *[loop.run_in_executor(pool, time.sleep, SERVICE_SECONDS) for _ in range(CALLS)]
                )

            async def idle() -> None:
                await asyncio.sleep(BEST)

            rounds: dict[str, Round] = {IDLE: idle, SLEEPING: sleeping, OURS: ours}
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rounds}
            for _ in range(WARM_UPS + ROUNDS):
                for name, calls in rounds.items():
                    taken[name].append(await measured(calls))

    print(f"{CALLS} calls of {SERVICE_SECONDS} s by {THREADS} threads, {ROUNDS} rounds")
    print(f"  {'':18}  {'median':>8}  fastest  ratio to {BEST} s  late: median  least  target")
    for name, figures in taken.items():
        took, late = zip(*figures[WARM_UPS:], strict=True)
        line = (
            f"  {name:18}  {median(took):5.3f} s  {min(took):5.3f} s  {median(took) / BEST:12.3f}"
            f"  {median(late) * 1e3:9.1f} ms  {min(late) * 1e3:5.1f}"
        )
        if name == OURS:
            met = "met" if median(late) <= LATE_AT_MOST else "MISSED"
            line += f"  {LATE_AT_MOST * 1e3:.0f} ms: {met}"
        print(line)


if __name__ == "__main__":
    asyncio.run(main())
