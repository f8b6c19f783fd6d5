"""What many asynchronous calls cost an event loop: how long they take, and how long it is held up.

50 calls to a service that takes 0.2 s for each, by 25 threads, can take 0.4 s at best. As in
call_cost.py the network is cut out at botocore's `before-send` event; its handler sleeps in the
place of the service, so that signing and decoding are included.

Beside AsyncPHIClient, the same threads do nothing but sleep. Meanwhile a heartbeat in the event
loop notes how late it is, at the worst in each round. What is late there without any call of ours
is the machine's own doing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

from comprehend_phi import AsyncPHIClient

ROUNDS = 20
WARM_UPS = 2
CALLS, THREADS, SERVICE_SECONDS = 50, 25, 0.2
HEARTBEAT_SECONDS = 0.001
BEST = CALLS / THREADS * SERVICE_SECONDS
LATE_AT_MOST = 0.020
OURS, SLEEPING, IDLE = "AsyncPHIClient", "threads that sleep", "an idle loop"

JOB_ID = "0123456789abcdef0123456789abcdef"
ANSWER = json.dumps(
    {"ComprehendMedicalAsyncJobProperties": {"JobId": JOB_ID, "JobStatus": "IN_PROGRESS"}}
).encode()

Round = Callable[[], Awaitable[object]]


class Body:
    """The body of an answer, with the one method by which botocore reads it from urllib3."""

    def stream(self) -> Iterator[bytes]:
        """The whole of it at once."""
        yield ANSWER


def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
    """The handler of `before-send`: a service that takes its time."""
    time.sleep(SERVICE_SECONDS)
    headers = HTTPHeaders()
    headers["Content-Type"] = "application/x-amz-json-1.1"
    headers["Content-Length"] = str(len(ANSWER))
    return AWSResponse(request.url, 200, headers, Body())


async def heartbeat(late: list[float]) -> None:
    """Note by how many seconds each beat is late."""
    while True:
        due = time.perf_counter() + HEARTBEAT_SECONDS
        await asyncio.sleep(HEARTBEAT_SECONDS)
        late.append(time.perf_counter() - due)


async def measured(calls: Round) -> tuple[float, float]:
    """The seconds that a round takes, and by how many the heartbeat is late at the worst."""
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
    """Measure in turns and print."""
    # Any: the stubs type a client for each of hundreds of services, and no answer to an event.
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
    print(f"  {'':18}  {'took':>7}  fastest  beside {BEST} s  late: median  least  at most")
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
