"""The command: options, the plan, the confirmation, the report and the exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from enum import IntEnum
from pathlib import Path

from ..._client import PHIClient
from ..._client_base import s3_of
from ..._clock import Clock, SystemClock
from ..._retry import RetryPolicy
from ..._shapes import IAM_ROLE_ARN, KMS_KEY, S3_BUCKET, StringShape
from ..._whole_file import whole_file
from ..._wording import amount
from ...corpus.limits import ServiceLimits
from ...corpus.report import PRICE_PER_UNIT
from ...errors import ComprehendPHIError
from ...models import request_token
from .account import FOLDER, Account, Target
from .masking import Mask
from .planning import Plan, make_plan, units_of
from .report import Report, make_report
from .running import Run, can_continue
from .state import State, StateError, open_state

_PROGRAM = "python -m comprehend_phi.testing.parity"

_SLOT_SECONDS = 3600.0  # how long a start waits until other jobs of the account have ended
_MINUTES_OF_A_JOB = 7  # AWS's own example took six and a half

_NOT_STARTED = "Nothing was started."
_CONTINUE = (
    "To continue, run the same command again. To stop the jobs and delete what was written, add"
    " --clean-up."
)


class ExitCode(IntEnum):
    """How the command ended."""

    SAME = 0  # AWS does what we expect
    DIFFERENT = 1
    USAGE = 2
    INCOMPLETE = 3  # no difference, but some questions have no answer
    ENDED_EARLY = 4
    INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, *, clock: Clock | None = None) -> int:
    """Run the command, and return its exit code.

    Args:
        arguments: the command line; None means that of this process.
        clock: measures time and sleeps. The default is this machine's clock.
    """
    clock = clock or SystemClock()
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.role_arn is None or options.bucket is None) and not options.dry_run:
        parser.error("--role-arn and --bucket are required, except with --dry-run")
    plan = make_plan(
        has_kms_key=options.kms_key is not None, max_cost=options.max_cost, slots=options.slots
    )
    if not options.clean_up:
        _print(_description(plan))
    if options.dry_run:
        return ExitCode.SAME
    if options.clean_up and not options.state.exists():
        parser.error(
            f"--state {options.state}: there is no such file. Pass the state file of the run that"
            " you want to end."
        )
    with _client(parser, options, clock) as client:
        region = s3_of(client).region
        try:
            state = open_state(options.state, _settings(options, region))
        except (StateError, OSError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            parser.error(f"--state {options.state}: {problem}")
        target = _target(options, region)
        mask = _mask(options, target)
        account = Account(client, target, state)
        run = Run(account, plan, mask=mask, clock=clock, inform=_inform)
        try:
            if options.clean_up:
                return _clean_up(run, state, mask)
            if not options.yes and not _is_confirmed():
                _inform(_NOT_STARTED)
                return ExitCode.ENDED_EARLY
            return _run(run, plan, state, mask, region, options.json)
        except KeyboardInterrupt:
            _inform(f"Interrupted. {_CONTINUE if options.state.exists() else _NOT_STARTED}")
            return ExitCode.INTERRUPTED


def _run(
    run: Run, plan: Plan, state: State, mask: Mask, region: str, json_file: Path | None
) -> int:
    """Ask all questions, print the report, and clean up."""
    try:
        state.save()
        run.ask_all()
        report = make_report(plan, state.answers, region=region, day=datetime.now(UTC).date())
        if json_file is not None:
            with whole_file(json_file, mode=0o666) as file:
                file.write(f"{json.dumps(report.to_dict(), indent=2)}\n".encode())
        _print(f"\n{report.to_text()}\n")
    except ComprehendPHIError as error:
        _inform(mask(str(error)))
        if can_continue(error):
            _inform(_CONTINUE)
        else:
            _clean_up(run, state, mask)
        return ExitCode.ENDED_EARLY
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _inform(f"{where}{error.strerror}. {_CONTINUE}")
        return ExitCode.ENDED_EARLY
    cleaned = _clean_up(run, state, mask)
    return cleaned or _exit_code(report)


def _exit_code(report: Report) -> ExitCode:
    if report.has_differences:
        return ExitCode.DIFFERENT
    return ExitCode.SAME if report.is_complete else ExitCode.INCOMPLETE


def _clean_up(run: Run, state: State, mask: Mask) -> ExitCode:
    """Stop the jobs, delete everything that was written, and forget the run."""
    try:
        run.clean_up()
    except ComprehendPHIError as error:
        _inform(mask(str(error)))
        _inform(
            f"Some files below {FOLDER} may remain. To try again, run the same command with"
            " --clean-up."
        )
        return ExitCode.ENDED_EARLY
    state.delete()
    _inform("Everything that the run wrote was deleted.")
    return ExitCode.SAME


# --- Options --------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Ask Amazon Comprehend Medical what nobody outside AWS knows, with invented"
        " notes, and compare its answers with the local service.",
    )
    add, shown = parser.add_argument, " (default: %(default)s)"
    add("--role-arn", type=_shaped(IAM_ROLE_ARN), help="the role that reads and writes the bucket")
    add("--bucket", type=_shaped(S3_BUCKET), help="the bucket for notes and results")
    add("--kms-key", type=_shaped(KMS_KEY), help="a KMS key, to find out which forms are accepted")
    add("--region", help="the AWS region")
    add("--profile", help="the profile with your AWS credentials")
    add("--max-cost", type=_amount, default=Decimal("1.00"), help=f"in US dollars{shown}")
    add(
        "--slots",
        type=_slots,
        default=ServiceLimits().max_active_jobs,
        help=f"how many jobs may run at the same time{shown}",
    )
    add("--dry-run", action="store_true", help="print the plan and its cost, and stop")
    add("--yes", action="store_true", help="start without asking for confirmation")
    add("--json", type=Path, metavar="FILE", help="write the report to this file")
    add(
        "--state",
        type=Path,
        metavar="FILE",
        default=Path("comprehend-phi-parity.state"),
        help=f"what the run needs to continue after an interruption{shown}",
    )
    add(
        "--clean-up",
        action="store_true",
        help="end an interrupted run: stop its jobs and delete what it wrote",
    )
    return parser


def _shaped(shape: StringShape) -> Callable[[str], str]:
    """Return a converter for argparse that checks a shape."""

    def check(text: str) -> str:
        if problem := shape.problem(text):
            raise argparse.ArgumentTypeError(problem)
        return text

    return check


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError("must be an amount in US dollars, such as 1.00")
    return amount


def _slots(text: str) -> int:
    slots = int(text) if text.isdecimal() else 0
    if slots < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return slots


def _client(
    parser: argparse.ArgumentParser, options: argparse.Namespace, clock: Clock
) -> PHIClient:
    from boto3.session import Session
    from botocore.exceptions import ProfileNotFound

    try:
        return PHIClient(
            session=Session(profile_name=options.profile, region_name=options.region),
            retry=RetryPolicy(slot_timeout=_SLOT_SECONDS),
            s3_transport="boto3",
            clock=clock,
        )
    except ProfileNotFound:
        parser.error("--profile: there is no such profile")
    except ComprehendPHIError as error:
        parser.error(str(error))


def _settings(options: argparse.Namespace, region: str) -> str:
    """Return a hash of the options that must be the same when a run continues."""
    return request_token(_PROGRAM, options.role_arn, options.bucket, options.kms_key or "", region)


def _target(options: argparse.Namespace, region: str) -> Target:
    return Target(
        role_arn=options.role_arn,
        bucket=options.bucket,
        kms_key=_key_forms(options.kms_key, options.role_arn, region) if options.kms_key else {},
    )


def _key_forms(key: str, role_arn: str, region: str) -> dict[str, str]:
    """Return a KMS key as an ARN, and as an id or an alias."""
    if key.startswith("arn:"):
        return {"arn": key, "short": key.rpartition(":")[2].removeprefix("key/")}
    # Key and role are in the same account, whose number is in the ARN of the role.
    partition, account = role_arn.split(":")[1:5:3]
    name = key if key.startswith("alias/") else f"key/{key}"
    return {"arn": f"arn:{partition}:kms:{region}:{account}:{name}", "short": key}


def _mask(options: argparse.Namespace, target: Target) -> Mask:
    keys = target.kms_key.values()
    return Mask(
        (
            ("role", target.role_arn),
            ("role", target.role_arn.rpartition("/")[2]),
            ("bucket", target.bucket),
            *(("kms-key", key) for key in keys),
            *(("kms-key", key.rpartition("/")[2]) for key in keys),
            ("profile", options.profile),
        )
    )


# --- What is printed ------------------------------------------------------------------------------


def _description(plan: Plan) -> str:
    minutes = _MINUTES_OF_A_JOB * len(plan.batches)
    cost = plan.cost.quantize(Decimal("0.01"), ROUND_CEILING)
    lines = [
        f"{amount(len(plan.questions), 'question')}, {amount(len(plan.setups), 'job')},"
        f" about {amount(minutes, 'minute')}:",
        *(
            f"  {setup.name:16} files: {len(setup.notes)},"
            f" up to ${units_of(setup) * PRICE_PER_UNIT:.4f}"
            for setup in plan.setups
        ),
        *(f"Not asked: {name} ({reason})" for name, reason in plan.left_out.items()),
        f"AWS may bill up to ${cost} for detecting PHI, and about $0.01 for S3 requests.",
    ]
    return "".join(f"{line}\n" for line in lines)


def _is_confirmed() -> bool:
    try:
        return input("Start? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # nobody can answer
        return False


def _print(text: str) -> None:
    """Print to stdout at once, also if it is a pipe, so that nothing starts before the plan."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _inform(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
