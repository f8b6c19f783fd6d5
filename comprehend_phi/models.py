"""Requests and responses as immutable values.

Building a request checks each field against the shapes of the service model. If AWS relaxes a rule
before this package does, switch attrs' validators off:

    with attrs.validators.disabled():
        request = StartPHIDetectionJobRequest(...)

The switch applies to the whole process, so do nothing else inside the block. These rules never
apply to responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeVar
from uuid import uuid4

from attrs import Attribute, field, fields, frozen
from attrs.validators import optional

from . import _shapes
from ._keys import folder_key
from ._members import decode, encode
from ._shapes import InstanceShape, RuleShape, StringShape, check_argument
from .errors import RequestValidationError


def _timestamp_problem(value: Any) -> str | None:
    if not isinstance(value, datetime):
        return f"must be a datetime, not {type(value).__name__}"
    if value.utcoffset() is None:
        return (
            "must have a time zone, because a naive datetime is a different moment on each machine;"
            " add tzinfo=datetime.UTC if it is UTC"
        )
    return None


_TIMESTAMP = RuleShape("Timestamp", _timestamp_problem)


def _only_one_filter(instance: JobFilter, _attribute: Attribute[Any], _value: Any) -> None:
    # This is a validator of the last field, so that attrs' switch turns it off like other rules.
    given = [each.name for each in fields(JobFilter) if getattr(instance, each.name) is not None]
    if len(given) > 1:
        raise RequestValidationError(
            owner="JobFilter",
            field=given[1],
            shape="ComprehendMedicalAsyncJobFilter",
            reason=f"cannot be combined with {given[0]}: the service accepts one filter at a time",
        )


class JobStatus(StrEnum):
    """The state of a job. If the service adds a state, it arrives as a `JobStatus` of its own."""

    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    FAILED = "FAILED"
    STOP_REQUESTED = "STOP_REQUESTED"
    STOPPED = "STOPPED"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown

    @property
    def is_terminal(self) -> bool:
        """Whether the state is final. False for states that this package does not know."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {JobStatus.COMPLETED, JobStatus.PARTIAL_SUCCESS, JobStatus.FAILED, JobStatus.STOPPED}
)
JOB_STATUS = StringShape("JobStatus", enum=tuple(JobStatus))


@frozen(kw_only=True)
class UncheckedLocation:
    """A bucket and a folder in it, without the rules that a request follows."""

    s3_bucket: str | None
    s3_key: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class _S3Location(UncheckedLocation):
    """A bucket and a folder in it."""

    s3_bucket: str = field(validator=_shapes.S3_BUCKET)
    s3_key: str | None = field(default=None, repr=False, validator=optional(_shapes.S3_KEY))

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Build the location from a URI such as `s3://bucket/folder`.

        `s3://bucket` and `s3://bucket/` have no key. Everything after the bucket's slash is the
        key, exactly as it is: a `%`, `?` or `#` has no special meaning.

        Raises:
            RequestValidationError: `uri` is not a `str` that begins with `s3://`, or its bucket or
                key breaks the rules of this class.
        """
        bucket, key = _split_uri(cls, uri)
        return cls(s3_bucket=bucket, s3_key=key)

    @property
    def uri(self) -> str:
        """The location as `from_uri` takes it. It contains the key, which may name people."""
        return _join_uri(self.s3_bucket, self.s3_key)


_Location = TypeVar("_Location", bound=_S3Location)


def unchecked_location(cls: type[_Location], bucket: str | None, key: str | None) -> _Location:
    """Return a location that AWS wrote, without checking it."""
    # The base class sets the same fields as `cls`, but does not check them.
    location = cls.__new__(cls)
    UncheckedLocation.__init__(location, s3_bucket=bucket, s3_key=key)
    return location


@frozen(kw_only=True)
class InputDataConfig(_S3Location):
    """The location of the notes.

    Attributes:
        s3_bucket: the bucket's name, in the region of the service endpoint.
        s3_key: the folder of the notes in the bucket. None means the whole bucket. Keys may name
            people, so the repr does not show this.
    """


@frozen(kw_only=True)
class OutputDataConfig(_S3Location):
    """The location of the results. The service writes them below `s3_key`, in one folder per job.

    Attributes:
        s3_bucket: the bucket's name, in the region of the service endpoint.
        s3_key: the folder. None means the top of the bucket. Not in the repr.
    """


@frozen
class S3Location:
    """A folder or a file in S3 that is not part of a request, such as one for redacted copies.

    Attributes:
        bucket: the bucket's name.
        key: the folder or file. None means the whole bucket. Keys may name people, so the repr does
            not show this.

    Raises:
        RequestValidationError: a value breaks the rules that the locations of a request follow.
    """

    bucket: str = field(validator=_shapes.S3_BUCKET)
    key: str | None = field(default=None, repr=False, validator=optional(_shapes.S3_KEY))

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Build the location from a URI such as `s3://bucket/folder`.

        `s3://bucket` and `s3://bucket/` have no key. Everything after the bucket's slash is the
        key, exactly as it is: a `%`, `?` or `#` has no special meaning.

        Raises:
            RequestValidationError: `uri` is not a `str` that begins with `s3://`, or its bucket or
                key breaks the rules of this class.
        """
        return cls(*_split_uri(cls, uri))

    @property
    def uri(self) -> str:
        """The location as `from_uri` takes it. It contains the key, which may name people."""
        return _join_uri(self.bucket, self.key)


def _split_uri(cls: type, uri: str) -> tuple[str, str | None]:
    """Return the bucket and the key in a URI from which `cls` is built."""
    check_argument(f"{cls.__name__}.from_uri", "uri", _shapes.S3_URI, uri)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key or None


def _join_uri(bucket: str, key: str | None) -> str:
    return f"s3://{bucket}/{key}" if key else f"s3://{bucket}"


def request_token(*parts: str) -> str:
    """Return a token for these parts. The same parts always give the same 64 hex digits.

    Use it in a program that keeps no state but must not start its job twice when you run it again.
    The same parts mean the same job, so include everything that distinguishes two jobs:

        request_token("nightly", "2031-02-01", "attempt 1")

    A token that belongs to a failed job stays with that job. To run the job again, change a part.

    The token does not depend on the machine, the process or the version of this package. It is the
    SHA-256 hash of all parts, each written as its length in UTF-8 bytes, a colon and the part.
    Anyone who can guess the parts can compute the token, so keep names of people out of them.

    Args:
        parts: one or more strings. Their order matters.

    Raises:
        RequestValidationError: there is no part, or a part is not a `str` that UTF-8 can encode.
    """
    from hashlib import sha256  # building a request does not need it

    if not parts:
        raise RequestValidationError(
            owner="request_token", field="parts", shape="str", reason="must be one or more strings"
        )
    joined = sha256()
    for part in parts:
        check_argument("request_token", "parts", _shapes.TEXT, _plain(part))
        encoded = part.encode()
        joined.update(b"%d:%b" % (len(encoded), encoded))
    return joined.hexdigest()


def _plain(part: object) -> object:
    """Return the value of a member of an Enum of strings, and anything else as it is."""
    return str.__str__(part) if isinstance(part, str) else part


def _new_token() -> str:
    return str(uuid4())


@frozen(kw_only=True)
class StartPHIDetectionJobRequest:
    """One logical start of a job.

    Each request gets a `client_request_token` when you build it. If you send the request again, or
    a request with the same token from another process, that starts no second job.

    `attrs.evolve` keeps the token, so a changed copy is still the same start. AWS does not document
    how it answers a known token with other values. If you want another job, set a new token:

        attrs.evolve(request, job_name="again", client_request_token=str(uuid.uuid4()))

    `request_token` makes a token that a later process can compute again.

    Attributes:
        input_data_config: the location of the notes.
        output_data_config: the location of the results.
        data_access_role_arn: the IAM role with which the service reads and writes these locations.
        language_code: the language of all notes. The service only knows `en`.
        job_name: 1 to 256 Unicode letters, separators, numbers and `_.:/=+-%@`. Not in the repr.
        kms_key: the key that encrypts the results. None means plain text, and starting such a job
            issues a `PlaintextOutputWarning`.
        client_request_token: 1 to 64 ASCII letters, digits and hyphens.

    Raises:
        RequestValidationError: a value breaks the rule of its shape.
    """

    input_data_config: InputDataConfig = field(validator=InstanceShape(InputDataConfig))
    output_data_config: OutputDataConfig = field(validator=InstanceShape(OutputDataConfig))
    data_access_role_arn: str = field(validator=_shapes.IAM_ROLE_ARN)
    language_code: str = field(default="en", validator=_shapes.LANGUAGE_CODE)
    job_name: str | None = field(default=None, repr=False, validator=optional(_shapes.JOB_NAME))
    kms_key: str | None = field(default=None, validator=optional(_shapes.KMS_KEY))
    client_request_token: str = field(factory=_new_token, validator=_shapes.CLIENT_REQUEST_TOKEN)

    def to_dict(self) -> dict[str, Any]:
        """Return the request under AWS's own names, ready for `json.dumps`.

        `aws comprehendmedical start-phi-detection-job --cli-input-json` takes the same JSON. The
        dict always contains the token, so sending it twice starts no second job. It also contains
        the keys and the job name, which may name people.
        """
        return encode(self)

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Self:
        """Build the request from what `to_dict` returned, here or on another machine.

        The dict must contain a `ClientRequestToken`. If this method added a new token, two readers
        of the same dict would start two jobs.

        Args:
            members: the request under AWS's own names.

        Raises:
            RequestValidationError: a member is missing or unknown, or a value breaks the rule of
                its shape. The error quotes neither values nor unknown names.
        """
        owner = f"{cls.__name__}.from_dict"
        arguments = decode(cls, members, owner=owner, field="members")
        if "client_request_token" not in arguments:
            raise RequestValidationError(
                owner=owner,
                field="client_request_token",
                shape=_shapes.CLIENT_REQUEST_TOKEN.name,
                reason=(
                    "is missing; add the token of the start that this request repeats, or a new"
                    " one, for example request_token('monday') or str(uuid.uuid4())"
                ),
            )
        for name, kind in (
            ("input_data_config", InputDataConfig),
            ("output_data_config", OutputDataConfig),
        ):
            arguments[name] = kind(**decode(kind, arguments[name], owner=owner, field=name))
        return cls(**arguments)

    @property
    def locations_overlap(self) -> bool:
        """Whether the input and output locations are the same, or one lies inside the other.

        Keys are taken as folders, with or without a slash at the end. No key means the whole
        bucket. A job on the outer location also reads the files in the inner one.
        """
        source, target = self.input_data_config, self.output_data_config
        if source.s3_bucket != target.s3_bucket:
            return False
        one, other = folder_key(source.s3_key), folder_key(target.s3_key)
        return one.startswith(other) or other.startswith(one)


START_REQUEST = InstanceShape(
    StartPHIDetectionJobRequest, "build one: StartPHIDetectionJobRequest(...)"
)


@frozen(kw_only=True)
class StartPHIDetectionJobResponse:
    """The response to a start.

    Attributes:
        job_id: the id of the job. Any process can continue with the job if it knows the id.
    """

    job_id: str


@frozen(kw_only=True)
class DescribePHIDetectionJobRequest:
    """The request for the properties of one job."""

    job_id: str = field(validator=_shapes.JOB_ID)


@frozen(kw_only=True)
class StopPHIDetectionJobRequest:
    """The request to stop one job."""

    job_id: str = field(validator=_shapes.JOB_ID)


@frozen
class DetectPHIRequest:
    """The request to detect PHI in one text.

    Attributes:
        text: 1 to 20,000 code points and at most 20,000 bytes in UTF-8. Not in the repr.
    """

    text: str = field(repr=False, validator=_shapes.PHI_TEXT)


@frozen(kw_only=True)
class JobFilter:
    """Which jobs to list. The service takes at most one of the four filters.

    Attributes:
        job_name: list jobs with exactly this name. Not in the repr.
        job_status: list jobs in this state.
        submit_time_before: list jobs submitted before this time, oldest first. An aware datetime.
        submit_time_after: list jobs submitted after this time, newest first. An aware datetime.

    Raises:
        RequestValidationError: a value breaks the rule of its shape, a datetime has no time zone,
            or more than one filter is set.
    """

    job_name: str | None = field(default=None, repr=False, validator=optional(_shapes.JOB_NAME))
    job_status: JobStatus | None = field(default=None, validator=optional(JOB_STATUS))
    submit_time_before: datetime | None = field(default=None, validator=optional(_TIMESTAMP))
    submit_time_after: datetime | None = field(
        default=None, validator=[optional(_TIMESTAMP), _only_one_filter]
    )


@frozen(kw_only=True)
class ListPHIDetectionJobsRequest:
    """The request for one page of a list of jobs."""

    filter: JobFilter | None = field(default=None, validator=optional(InstanceShape(JobFilter)))
    max_results: int = field(default=100, validator=_shapes.MAX_RESULTS)
    next_token: str | None = field(default=None, repr=False)  # from the service, so not checked


@frozen(kw_only=True)
class JobProperties:
    """The properties of a job, as the service returned them. What it left out is None.

    Times are aware datetimes in UTC. The repr does not show the job name, keys, paths and the
    message, because they may name people.

    Attributes:
        job_id: the id of the job. Any process can continue with the job if it knows the id.
        job_status: the state of the job at the time of the response.
        job_name: the name from the start request.
        message: the service's message about the state, such as why the job failed.
        submit_time: when the job was submitted.
        end_time: when the job ended.
        expiration_time: when the service forgets the job. The result files stay.
        input_data_config: the location of the notes.
        output_data_config: the location of the results. `s3_key` includes the folder that the
            service adds.
        language_code: the language of the notes, `en`.
        data_access_role_arn: the IAM role with which the service reads and writes.
        manifest_file_path: the path of the manifest, according to the service.
        kms_key: the key that encrypts the results. None means plain text.
        model_version: the version of the model that detects PHI.
    """

    job_id: str
    job_status: JobStatus
    job_name: str | None = field(default=None, repr=False)
    message: str | None = field(default=None, repr=False)
    submit_time: datetime | None = None
    end_time: datetime | None = None
    expiration_time: datetime | None = None
    input_data_config: InputDataConfig | None = None
    output_data_config: OutputDataConfig | None = None
    language_code: str | None = None
    data_access_role_arn: str | None = None
    manifest_file_path: str | None = field(default=None, repr=False)
    kms_key: str | None = None
    model_version: str | None = None


@frozen(kw_only=True)
class JobPage:
    """One page of a list of jobs."""

    jobs: tuple[JobProperties, ...]
    next_token: str | None = field(default=None, repr=False)
