"""The questions. Each settles the rows of `docs/aws-behavior.md` that name it.

If one of the local service's `Rules` is our answer to a question, answers are values of that rule.
So a difference says which value makes the local service behave as AWS does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice, pairwise
from typing import Any

from attrs import field, frozen

from ..._keys import folder_key
from ...corpus.tally import CHARACTERS_PER_UNIT, units
from ...errors import (
    InvalidEncodingException,
    InvalidRequestException,
    ResourceNotFoundException,
    TextSizeLimitExceededException,
    ValidationException,
)
from ...models import JobStatus
from ..preconditions import INVALID_ROLE
from ..processing import NO_FILES
from ..reading import INVALID_ENCODING, TOO_LARGE
from ..rules import Rules
from .account import Account
from .answers import NotAnswered, Reason
from .setups import LARGEST_TEXT, SETUPS, large_note

_OUR_RULES = Rules()
_NOTES = {setup.name: setup.notes for setup in SETUPS}


@frozen(kw_only=True)
class Question:
    """One question.

    Attributes:
        name: its name in reports and in `docs/aws-behavior.md`.
        text: the question.
        ask: finds the answer, or raises `NotAnswered`. It does not depend on other questions.
        rule: the switch of the local service's `Rules` that has our answer.
        expected: our answer, if it is not the default of `rule`.
        jobs: the jobs that it needs.
        while_running: whether it is asked while its job runs, instead of after its end.
        restarts: how many times it might start its first job again.
        units: how many units its own calls may cost. A unit is 100 characters.
    """

    name: str
    text: str
    ask: Callable[[Account], str] = field(repr=False)
    rule: str | None = None
    expected: str | None = None
    jobs: tuple[str, ...] = ()
    while_running: bool = False
    restarts: int = 0
    units: int = 0

    @property
    def ours(self) -> str:
        """Our answer."""
        return self.expected or getattr(_OUR_RULES, self.rule or "")


# --- Starts ---------------------------------------------------------------------------------------


def _token_after_end(account: Account) -> str:
    account.properties("base")
    # If it is refused, the service still knows the token.
    forgotten = account.start_again("base") == "another-job"
    return "until-job-ends" if forgotten else "until-job-expires"


def _other_parameters(account: Account) -> str:
    name = account.request("base").job_name
    return account.start_again("base", job_name=f"{name}-other")


def _missing_role(account: Account) -> str:
    refusal = account.refusals.get("missing-role")
    if refusal is None:
        return _how_it_ended(account, "missing-role")
    if isinstance(refusal, InvalidRequestException):
        return "refused" if INVALID_ROLE in refusal.message else "refused with another message"
    raise NotAnswered(Reason.JOB_NOT_STARTED, refusal.code)


def _missing_bucket(account: Account) -> str:
    if isinstance(account.refusals.get("missing-bucket"), InvalidRequestException):
        return "refused"
    return _how_it_ended(account, "missing-bucket")


def _how_it_ended(account: Account, name: str) -> str:
    has_failed = account.properties(name).job_status is JobStatus.FAILED
    return "job-fails" if has_failed else "completes"


def _key_forms(account: Account) -> str:
    accepted = [
        form
        for form in ("arn", "short")
        if not isinstance(account.refusals.get(f"kms-{form}"), InvalidRequestException)
        and _how_it_ended(account, f"kms-{form}") == "completes"
    ]
    if not accepted:  # the role may not be allowed to use the key
        raise NotAnswered(Reason.JOB_FAILED)
    return "all" if len(accepted) > 1 else accepted[0]


# --- Locations ------------------------------------------------------------------------------------


def _input_key(account: Account) -> str:
    is_read = account.output("base").fate("three.txt") != "absent"
    return "prefix" if is_read else "folder"


def _final_slash(account: Account) -> str:
    output = account.output("final-slash")
    if output.fate("note.txt") == "absent":
        return "the note is not read"
    key = account.request("final-slash").output_data_config.s3_key
    return "kept" if output.folder.startswith(f"{key}/") else "ignored"


def _output_folder(account: Account) -> str:
    key = account.request("base").output_data_config.s3_key
    return "below" if account.output("base").folder.startswith(f"{key}/") else "appended"


def _described_output_key(account: Account) -> str:
    location = account.properties("base").output_data_config
    shown = folder_key(location.s3_key if location else None)
    if shown == account.output("base").folder:
        return "folder"
    requested = folder_key(account.request("base").output_data_config.s3_key)
    return "requested" if shown == requested else _other(account, "base", shown)


def _manifest_path(account: Account) -> str:
    path = account.properties("base").manifest_file_path
    return _form(account, "base", path, account.output("base").manifest_key)


def _list_locations(account: Account) -> str:
    output = account.output("base")
    location = output.summary.get("SuccessfulFilesListLocation")
    return _form(account, "base", location, output.list_key("success"))


def _file_names(account: Account) -> str:
    name = account.output("base").input_name("one.txt")
    if name == "one.txt":
        return "path"
    return _form(account, "base", name, f"{account.folder('base')}2031/one.txt")


def _form(account: Account, job: str, name: str | None, key: str) -> str:
    """Return in which form a name means a key."""
    if not name:
        return "absent"
    if name == key:
        return "key"
    is_uri = name == f"s3://{account.target.bucket}/{key}"
    return "uri" if is_uri else _other(account, job, name)


def _other(account: Account, job: str, name: str) -> str:
    """Return a name that none of the alternatives explains, without the folders of this run."""
    folder = account.output(job).folder
    return f"other: {name.replace(folder, '<folder>/').replace(account.folder(job), '<run>/')}"


def _list_name(account: Account) -> str:
    output = account.output("base")
    names = [output.list_key(kind).rpartition("/")[2] for kind in ("success", "failed")]
    return " and ".join(dict.fromkeys(names))


def _write_test_file(account: Account) -> str:
    name = "ComprehendMedicalS3WriteTestFile"
    return "present" if any(name in key for key in account.output("base").keys) else "absent"


# --- The manifest and its lists -------------------------------------------------------------------


def _success_count(account: Account) -> str:
    summary = account.output("base").summary
    for member in ("SuccessFilesCount", "SuccessfulFilesCount"):
        if member in summary:
            return member
    raise NotAnswered(Reason.RESULT_MISSING, "SuccessFilesCount")


def _unprocessed_files(account: Account) -> str:
    entries = account.output("files").entries("failed")
    if not entries:
        raise NotAnswered(Reason.RESULT_MISSING, "unprocessed file")
    return "names" if isinstance(entries[0], str) else "objects"


def _metered_characters(account: Account) -> str:
    output = account.output("base")
    characters = [
        len(body)
        for key, body in _NOTES["base"].items()
        if output.fate(key.rpartition("/")[2]) == "processed"
    ]
    total = sum(characters)
    alternatives = {
        total: "exact",
        sum(map(units, characters)) * CHARACTERS_PER_UNIT: "units-per-file",
        units(total) * CHARACTERS_PER_UNIT: "units",
    }
    metered = output.summary.get("TotalMeteredCharacters", -1)
    return alternatives.get(metered, f"{metered} for files with {characters}")


def _fate(job: str, note: str) -> Callable[[Account], str]:
    return lambda account: account.output(job).fate(note)


def _error_code(note: str) -> Callable[[Account], str]:
    return lambda account: account.output("files").error_code(note)


def _folder_marker(account: Account) -> str:
    return "ignored" if account.output("texts").fate("marker/") == "absent" else "read"


# --- Offsets --------------------------------------------------------------------------------------


def _offsets(note: str, alternatives: Mapping[int, str]) -> Callable[[Account], str]:
    """Return a question about offsets.

    Args:
        note: the name of the note.
        alternatives: what it means if the offsets are so far from those of code points.
    """

    def ask(account: Account) -> str:
        text = _NOTES["texts"][f"notes/{note}"].decode()
        shift = account.output("texts").offset_shift(note, text)
        return alternatives.get(shift, f"offsets differ by {shift}")

    return ask


# --- Jobs -----------------------------------------------------------------------------------------


def _state_after_stop(account: Account) -> str:
    account.stop("stopped")
    return str(account.client.describe_phi_detection_job(account.job_id("stopped")).job_status)


def _second_stop(account: Account) -> str:
    account.stop("stopped")
    return account.stop("stopped")


def _stop_after_end(account: Account) -> str:
    account.properties("base")
    return account.stop("base")


def _failure_message(account: Account) -> str:
    job = account.properties("empty-location")
    if job.job_status is not JobStatus.FAILED:
        raise NotAnswered(Reason.JOB_DID_NOT_FAIL)
    return job.message or "absent"


def _error_status(account: Account) -> str:
    try:
        account.client.describe_phi_detection_job(account.state.run * 2)
    except ResourceNotFoundException as error:
        by_status = {400: "api-reference", 404: "service-model"}
        status = error.status_code or 0
        return by_status.get(status, f"ResourceNotFoundException with {status}")
    except InvalidRequestException as error:
        return error.code
    return "found"


def _two_filters(account: Account) -> str:
    account.properties("base")
    filters = {"JobName": account.request("base").job_name, "JobStatus": JobStatus.STOPPED.value}
    try:
        page: Any = account.send(
            "ListPHIDetectionJobs", lambda client: client.list_phi_detection_jobs(Filter=filters)
        )
    except ValidationException:
        return "refused"
    except InvalidRequestException as error:
        return error.code
    # The job has completed, so both filters together find nothing.
    found = page.get("ComprehendMedicalAsyncJobPropertiesList")
    return "only one applies" if found else "both"


def _unfiltered_list(account: Account) -> str:
    for name in ("base", "final-slash"):
        account.job_id(name)  # two jobs make an order
    jobs = islice(account.client.list_phi_detection_jobs(page_size=100), 100)
    times = [job.submit_time for job in jobs if job.submit_time is not None]
    pairs = list(pairwise(times))
    if all(one >= two for one, two in pairs):
        return "newest-first"
    return "oldest-first" if all(one <= two for one, two in pairs) else "in no order"


# --- DetectPHI ------------------------------------------------------------------------------------


_TEXT_REFUSED = (
    InvalidEncodingException,
    InvalidRequestException,
    TextSizeLimitExceededException,
    ValidationException,
)


def _largest_text(account: Account) -> str:
    try:
        account.client.detect_phi(large_note(LARGEST_TEXT))
    except _TEXT_REFUSED as error:
        return error.code
    return "accepted"


def _too_large_text(account: Account) -> str:
    text = large_note(LARGEST_TEXT + 1)
    try:
        account.send("DetectPHI", lambda client: client.detect_phi(Text=text))
    except _TEXT_REFUSED as error:
        return error.code
    return "accepted"


QUESTIONS = (
    Question(
        name="same-parameters",
        text="What does a start with the same token and the same parameters return?",
        rule="same_parameters",
        ask=lambda account: account.start_again("base"),
        jobs=("base",),
        while_running=True,
        restarts=1,
    ),
    Question(
        name="other-parameters",
        text="What does a start with the same token and other parameters return?",
        rule="other_parameters",
        ask=_other_parameters,
        jobs=("base",),
        while_running=True,
        restarts=1,
    ),
    Question(
        name="token-after-end",
        text="How long does the service remember a token?",
        rule="remember_tokens",
        ask=_token_after_end,
        jobs=("base",),
        restarts=1,
    ),
    Question(
        name="missing-role",
        text="What happens to a start whose role cannot be assumed?",
        rule="missing_role",
        ask=_missing_role,
        jobs=("missing-role",),
    ),
    Question(
        name="missing-bucket",
        text="What happens to a start whose input bucket does not exist?",
        rule="missing_bucket",
        ask=_missing_bucket,
        jobs=("missing-bucket",),
    ),
    Question(
        name="kms-key-forms",
        text="Which forms of a KMS key are accepted?",
        rule="kms_key_forms",
        ask=_key_forms,
        jobs=("kms-arn", "kms-short"),
    ),
    Question(
        name="folder-or-prefix",
        text="Is the input key a folder or a prefix?",
        rule="input_key",
        ask=_input_key,
        jobs=("base",),
    ),
    Question(
        name="final-slash",
        text="What does a slash at the end of a key do?",
        rule="final_slash",
        ask=_final_slash,
        jobs=("final-slash",),
    ),
    Question(
        name="output-folder",
        text="Where is the job's folder, if the output key has no slash at its end?",
        rule="output_folder",
        ask=_output_folder,
        jobs=("base",),
    ),
    Question(
        name="described-output-key",
        text="Which output key does a described job show?",
        rule="described_output_key",
        ask=_described_output_key,
        jobs=("base",),
    ),
    Question(
        name="manifest-path",
        text="What does ManifestFilePath contain?",
        rule="manifest_path",
        ask=_manifest_path,
        jobs=("base",),
    ),
    Question(
        name="list-locations",
        text="How does the manifest name its lists?",
        rule="list_locations",
        ask=_list_locations,
        jobs=("base",),
    ),
    Question(
        name="list-name",
        text="What are the lists called?",
        rule="list_name",
        ask=_list_name,
        jobs=("base",),
    ),
    Question(
        name="file-names",
        text="How do the lists name files?",
        rule="file_names",
        ask=_file_names,
        jobs=("base",),
    ),
    Question(
        name="write-test-file",
        text="Is there a file ComprehendMedicalS3WriteTestFile?",
        rule="write_test_file",
        ask=_write_test_file,
        jobs=("base",),
    ),
    Question(
        name="success-count",
        text="Which member of the manifest counts processed files?",
        rule="success_count",
        ask=_success_count,
        jobs=("base",),
    ),
    Question(
        name="metered-characters",
        text="How does a job round the characters that it meters?",
        rule="metered_characters",
        ask=_metered_characters,
        jobs=("base",),
    ),
    Question(
        name="unprocessed-files",
        text="What does the list of unprocessed files contain?",
        rule="unprocessed_files",
        ask=_unprocessed_files,
        jobs=("files",),
    ),
    Question(
        name="latin-1",
        text="What happens to a file in Latin-1?",
        rule="not_utf8",
        ask=_fate("files", "latin-1.txt"),
        jobs=("files",),
    ),
    Question(
        name="latin-1-code",
        text="Which error code does a file in Latin-1 get?",
        expected=INVALID_ENCODING,
        ask=_error_code("latin-1.txt"),
        jobs=("files",),
    ),
    Question(
        name="largest-file",
        text="What happens to a file of 71,680 bytes?",
        expected="processed",
        ask=_fate("files", "largest.txt"),
        jobs=("files",),
    ),
    Question(
        name="too-large-file",
        text="What happens to a file of 71,681 bytes?",
        expected="unprocessed",
        ask=_fate("files", "too-large.txt"),
        jobs=("files",),
    ),
    Question(
        name="too-large-file-code",
        text="Which error code does a file of 71,681 bytes get?",
        expected=TOO_LARGE,
        ask=_error_code("too-large.txt"),
        jobs=("files",),
    ),
    Question(
        name="empty-file",
        text="What happens to an empty file?",
        rule="empty_files",
        ask=_fate("texts", "empty.txt"),
        jobs=("texts",),
    ),
    Question(
        name="folder-marker",
        text="What happens to an object whose key ends in a slash?",
        rule="folder_markers",
        ask=_folder_marker,
        jobs=("texts",),
    ),
    Question(
        name="nul",
        text="What happens to a file that contains U+0000?",
        rule="nul_characters",
        ask=_fate("texts", "nul.txt"),
        jobs=("texts",),
    ),
    Question(
        name="byte-order-mark",
        text="Do offsets count a byte order mark?",
        rule="byte_order_marks",
        ask=_offsets("byte-order-mark.txt", {0: "counted", -1: "removed"}),
        jobs=("texts",),
    ),
    Question(
        name="line-ends",
        text="Do offsets count CR LF as two characters?",
        rule="line_ends",
        ask=_offsets("line-ends.txt", {0: "kept", -2: "converted"}),
        jobs=("texts",),
    ),
    Question(
        name="astral-characters",
        text="Do offsets count code points, also beyond U+FFFF?",
        rule="offsets",
        ask=_offsets("astral.txt", {0: "code-points", 3: "utf-16"}),
        jobs=("texts",),
    ),
    Question(
        name="json",
        text="What do offsets count in a JSON file?",
        rule="json_files",
        ask=_offsets("note.json", {0: "as-text", -len('{"Text": "'): "text-member"}),
        jobs=("texts",),
    ),
    Question(
        name="state-after-stop",
        text="Which state does a job have that was just stopped?",
        rule="state_after_stop",
        ask=_state_after_stop,
        jobs=("stopped",),
        while_running=True,
    ),
    Question(
        name="second-stop",
        text="What happens if you stop a job twice?",
        rule="second_stop",
        ask=_second_stop,
        jobs=("stopped",),
        while_running=True,
    ),
    Question(
        name="stop-after-end",
        text="What happens if you stop a job that has completed?",
        rule="stop_after_end",
        ask=_stop_after_end,
        jobs=("base",),
    ),
    Question(
        name="empty-location",
        text="How does a job end whose input location has no files?",
        rule="empty_location",
        ask=lambda account: _how_it_ended(account, "empty-location"),
        jobs=("empty-location",),
    ),
    Question(
        name="failure-message",
        text="Which message does such a job have if it fails?",
        rule="failure_messages",
        expected=NO_FILES,
        ask=_failure_message,
        jobs=("empty-location",),
    ),
    Question(
        name="unfiltered-list",
        text="In which order are jobs listed without a filter?",
        rule="unfiltered_list",
        ask=_unfiltered_list,
        jobs=("base", "final-slash"),
    ),
    Question(
        name="two-filters",
        text="What does a list with two filters return?",
        rule="two_filters",
        ask=_two_filters,
        jobs=("base",),
    ),
    Question(
        name="error-status",
        text="Which HTTP status does ResourceNotFoundException have?",
        rule="error_status",
        ask=_error_status,
    ),
    Question(
        name="largest-text",
        text="Does DetectPHI accept 20,000 bytes?",
        expected="accepted",
        ask=_largest_text,
        units=units(len(large_note(LARGEST_TEXT))),
    ),
    Question(
        name="too-large-text",
        text="How does DetectPHI refuse 20,001 bytes?",
        expected="TextSizeLimitExceededException",
        ask=_too_large_text,
        units=units(len(large_note(LARGEST_TEXT + 1))),
    ),
)
