"""The work of a job: read the notes, detect PHI, write the results.

AWS does not document the codes of unprocessed files, the messages, and which state a job ends in;
these are our rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from .._keys import folder_key
from .._wording import amount
from ..models import JobStatus
from .detector import Detector, DetectorError, run_detector
from .jobs import LocalJob, Outcome
from .limits import Limits
from .object_store import ObjectStore
from .output import Processed, Unprocessed, write_results
from .preconditions import obstacle
from .reading import UnreadableFile, count_offsets, read_text
from .rules import Rules

NO_FILES = "The input location contains no files."


class JobFailure(Exception):
    """The job fails as a whole."""


def process(job: LocalJob, store: ObjectStore, detector: Detector, limits: Limits) -> Outcome:
    """Do the work of a job that has run for its whole duration."""
    rules = job.rules
    has_messages = rules.failure_messages == "sentences"
    if (problem := obstacle(job.request, store)) is not None:
        return Outcome(status=JobStatus.FAILED, message=problem if has_messages else None)
    processed: list[Processed] = []
    unprocessed: list[Unprocessed] = []
    message: str | None = None
    try:
        for key, path, body in _read(job, store, limits):
            file = _process_file(key, path, body, detector, limits, rules)
            if isinstance(file, Processed):
                processed.append(file)
            else:
                unprocessed.append(file)
    except (JobFailure, DetectorError) as failure:
        message = str(failure)
    else:
        if unprocessed and not processed:
            message = "None of the input files could be processed."
    if message is not None:
        status = JobStatus.FAILED
        message = message if has_messages else None
    elif unprocessed:
        status = JobStatus.PARTIAL_SUCCESS
        message = f"{amount(len(unprocessed), 'file was', 'files were')} not processed."
    else:
        status = JobStatus.COMPLETED
    manifest = write_results(store, job, status, message, processed, unprocessed)
    return Outcome(status=status, message=message, manifest=manifest)


def _read(job: LocalJob, store: ObjectStore, limits: Limits) -> Iterator[tuple[str, str, bytes]]:
    """Yield the key, the path below the input key and the bytes of each input file."""
    source = job.request["InputDataConfig"]
    bucket, key = source["S3Bucket"], source.get("S3Key", "")
    folder = folder_key(key)
    start = key if job.rules.input_key == "prefix" else folder
    names = [
        name
        for name in store.keys(bucket)
        if (
            name.startswith(start)
            and (not name.endswith("/") or job.rules.folder_markers == "read")
        )
        or name == key
    ]
    if not names and job.rules.empty_location == "job-fails":
        raise JobFailure(NO_FILES)
    if len(names) > limits.files:
        raise JobFailure(f"The job has {len(names)} files; the limit is {limits.files}.")
    total = 0
    for name in names:
        body = store.read(bucket, name)
        total += len(body)
        if total > limits.total_bytes:
            raise JobFailure(
                f"Together, the job's files are larger than {limits.total_bytes} bytes."
            )
        if name == key:
            path = name.rpartition("/")[2]
        else:
            path = name.removeprefix(folder if name.startswith(folder) else start)
        yield name, path, body


def _process_file(
    key: str, path: str, body: bytes, detector: Detector, limits: Limits, rules: Rules
) -> Processed | Unprocessed:
    try:
        text = read_text(key, body, limits, rules)
    except UnreadableFile as error:
        return Unprocessed(key=key, path=path, code=error.code, message=error.message)
    return Processed(
        key=key,
        path=path,
        size=len(body),
        characters=len(text),
        entities=count_offsets(run_detector(detector, text), text, rules),
    )
