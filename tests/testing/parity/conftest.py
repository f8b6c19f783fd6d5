"""A local account for the parity kit, which its questions are asked to."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from attrs import evolve, frozen
from botocore.config import Config

from comprehend_phi import Entity, PHIClient, RetryPolicy
from comprehend_phi.testing import FakeClock, Limits, LocalServer, LocalService, Rules
from comprehend_phi.testing.parity.account import Account, Target
from comprehend_phi.testing.parity.masking import Mask
from comprehend_phi.testing.parity.planning import Plan, make_plan
from comprehend_phi.testing.parity.running import Run
from comprehend_phi.testing.parity.state import open_state

from ...entities import entity

BUCKET = "quellwasser-notes"
ROLE = "arn:aws:iam::123456789012:role/service-role/zinnia-reads-notes"
KEY = "0a1b2c3d-0000-4000-8000-123456789012"
KEY_ARN = f"arn:aws:kms:us-east-1:123456789012:key/{KEY}"


@cache
def session() -> Any:
    """Return a session that loads boto3's models only once for all tests."""
    return boto3.Session("testing", "testing", region_name="us-east-1")


@frozen
class World:
    """A local account and one run in it.

    Attributes:
        server: the local service and its S3.
        account: what the questions see.
        run: the run, which has not begun.
    """

    server: LocalServer
    account: Account
    run: Run
    plan: Plan
    clock: FakeClock

    @property
    def service(self) -> LocalService:
        return self.server.service

    @property
    def files(self) -> dict[str, bytes]:
        """The objects in the bucket."""
        storage = self.server.storage
        return {key: storage.read(BUCKET, key) for key in storage.keys(BUCKET)}

    def answers(self) -> dict[str, str]:
        """Return the answers so far, or the reasons why there are none."""
        return {
            name: answer.observed or f"{answer.reason} {answer.detail}".rstrip()
            for name, answer in self.account.state.answers.items()
        }

    def again(self) -> World:
        """Return a run in another process that continues with the same state."""
        return continued(
            self.server,
            self.account.client,
            self.account.state.path,
            self.plan,
            self.clock,
        )


def continued(
    server: LocalServer, client: PHIClient, state: Path, plan: Plan, clock: FakeClock
) -> World:
    account = Account(
        client,
        Target(role_arn=ROLE, bucket=BUCKET, kms_key={"arn": KEY_ARN, "short": KEY}),
        open_state(state, "settings"),
    )
    mask = Mask([("bucket", BUCKET)])
    run = Run(account, plan, mask=mask, clock=clock, inform=lambda line: None)
    return World(server, account, run, plan, clock)


def only(plan: Plan, jobs: Collection[str]) -> Plan:
    """Return a plan without other jobs and without the questions about them."""
    return evolve(
        plan,
        batches=[[setup for setup in batch if setup.name in jobs] for batch in plan.batches],
        questions=[each for each in plan.questions if set(each.jobs) <= set(jobs)],
    )


def find_ada(text: str) -> list[Entity]:
    """Find the patient of the kit's notes, much faster than the local service's own detector."""
    name = "Ada Example"
    begins = [match.start() for match in re.finditer(name, text)]
    return [
        entity(text, begin, begin + len(name), id_=number, score=0.99)
        for number, begin in enumerate(begins)
    ]


@pytest.fixture
def world(tmp_path: Path, clock: FakeClock) -> Iterator[Callable[..., World]]:
    """Build a world: `world(rules=Rules(...))`, or `world(jobs=["base"])` for a short run."""
    with ExitStack() as stack:

        def build(
            *,
            rules: Rules | None = None,
            limits: Limits | None = None,
            jobs: Collection[str] | None = None,
            slots: int = 10,
            max_attempts: int = 8,
            clock: FakeClock = clock,
            job_seconds: float = 20,
        ) -> World:
            server = stack.enter_context(
                LocalServer(
                    clock=clock,
                    job_seconds=job_seconds,
                    detector=find_ada,
                    rules=rules,
                    limits=limits,
                )
            )
            server.storage.create_bucket(BUCKET)
            s3 = session().client(
                "s3",
                endpoint_url=server.endpoint_url,
                config=Config(retries={"total_max_attempts": 1}),
            )
            stack.callback(s3.close)
            client = stack.enter_context(
                PHIClient(
                    session=session(),
                    endpoint_url=server.endpoint_url,
                    s3_client=s3,
                    retry=RetryPolicy(max_attempts=max_attempts, slot_timeout=3600),
                    clock=clock,
                )
            )
            plan = make_plan(has_kms_key=True, max_cost=Decimal("1.00"), slots=slots)
            if jobs is not None:
                plan = only(plan, jobs)
            return continued(server, client, tmp_path / "state", plan, clock)

        yield build
