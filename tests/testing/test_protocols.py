"""The two protocols of the service model over HTTP, byte by byte and through botocore."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.model
import botocore.session
import cbor2
import pytest
from attrs import frozen
from botocore.config import Config

from comprehend_phi import (
    JobStatus,
    PHIClient,
    ResourceNotFoundException,
    RetryPolicy,
    StartPHIDetectionJobRequest,
    ThrottlingException,
    redact,
)
from comprehend_phi.testing import FakeClock, Fault, LocalServer, faults, local_service

from ..conftest import DESCRIBE, JOB_ID, LIST, PASSING_FAULTS, ROLE, START

JSON, CBOR = "json", "smithy-rpc-v2-cbor"

both = pytest.mark.parametrize("protocol", [JSON, CBOR])


@frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def members(self) -> Any:
        if self.headers["content-type"] == "application/cbor":
            return cbor2.loads(self.body)
        return json.loads(self.body)


def encoded(protocol: str, content: Any) -> bytes:
    if protocol == JSON:
        return json.dumps(content).encode()
    body: bytes = cbor2.dumps(content, datetime_as_timestamp=True)
    return body


def post(server: LocalServer, protocol: str, operation: str, body: bytes, **headers: str) -> Answer:
    if protocol == JSON:
        path, own = "/", {"X-Amz-Target": f"ComprehendMedical_20181030.{operation}"}
    else:
        path = f"/service/ComprehendMedical_20181030/operation/{operation}"
        own = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
    host = server.endpoint_url.removeprefix("http://")
    with closing(http.client.HTTPConnection(host)) as connection:
        connection.request("POST", path, body, {**own, **headers})
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())


def start_members(**members: Any) -> dict[str, Any]:
    return {
        "InputDataConfig": {"S3Bucket": "bucket", "S3Key": "notes"},
        "OutputDataConfig": {"S3Bucket": "bucket", "S3Key": "results"},
        "DataAccessRoleArn": ROLE,
        "LanguageCode": "en",
        **members,
    }


# --- Byte by byte ---------------------------------------------------------------------------------


@both
def test_a_job_is_described_in_the_protocol_of_the_request(
    server: LocalServer, clock: FakeClock, protocol: str
) -> None:
    clock.sleep(0.25)
    job_id = post(server, protocol, START, encoded(protocol, start_members())).members["JobId"]
    answer = post(server, protocol, DESCRIBE, encoded(protocol, {"JobId": job_id}))
    properties = answer.members["ComprehendMedicalAsyncJobProperties"]
    assert (answer.status, properties["JobStatus"]) == (200, "SUBMITTED")
    submitted = clock.now() if protocol == CBOR else clock.now().timestamp()
    assert properties["SubmitTime"] == submitted


def test_timestamps_in_cbor_have_the_tag_for_seconds_since_1970(
    server: LocalServer, clock: FakeClock
) -> None:
    job_id = post(server, CBOR, START, encoded(CBOR, start_members())).members["JobId"]
    body = post(server, CBOR, DESCRIBE, encoded(CBOR, {"JobId": job_id})).body
    tagged = b"\xc1\x1a" + int(clock.now().timestamp()).to_bytes(4, "big")
    assert b"\x6aSubmitTime" + tagged in body


@both
@pytest.mark.parametrize("name", ["SubmitTimeBefore", "SubmitTimeAfter"])
def test_a_filter_by_time_is_understood_in_both_protocols(
    server: LocalServer, clock: FakeClock, protocol: str, name: str
) -> None:
    ids: list[str] = []
    for _ in range(2):
        ids += [post(server, protocol, START, encoded(protocol, start_members())).members["JobId"]]
        clock.sleep(10)
    between = datetime(2031, 1, 2, 3, 4, 10, tzinfo=UTC)
    value: Any = between if protocol == CBOR else between.timestamp()
    answer = post(server, protocol, LIST, encoded(protocol, {"Filter": {name: value}}))
    listed = answer.members["ComprehendMedicalAsyncJobPropertiesList"]
    assert [job["JobId"] for job in listed] == [ids[name == "SubmitTimeAfter"]]


@pytest.mark.parametrize(
    ("protocol", "body"),
    [
        *((JSON, body) for body in (b"<xml/>", b"[]", b"null", b'"JobId"', b"\xff\xfe", b"{")),
        *(
            (CBOR, body)
            for body in (b"\xff", b"\x80", b"\xf6", b"\x65JobId", b"\xa1", b"{}", b"\xa1\x01")
        ),
    ],
)
def test_a_body_that_is_not_a_structure_is_a_serialization_exception(
    server: LocalServer, protocol: str, body: bytes
) -> None:
    answer = post(server, protocol, LIST, body)
    assert answer.status == 400
    assert answer.members["__type"].endswith("SerializationException")


@both
def test_a_member_of_the_wrong_type_is_a_serialization_exception(
    server: LocalServer, protocol: str
) -> None:
    answer = post(server, protocol, LIST, encoded(protocol, {"MaxResults": "5"}))
    assert answer.status == 400
    assert answer.members["__type"].endswith("SerializationException")
    assert answer.members["Message"] == "STRING_VALUE can not be converted to an Integer"


@both
def test_an_empty_body_is_an_empty_structure(server: LocalServer, protocol: str) -> None:
    answer = post(server, protocol, LIST, b"")
    assert answer.status == 200
    assert answer.members == {"ComprehendMedicalAsyncJobPropertiesList": []}


@both
@pytest.mark.parametrize("operation", ["StartRxNormInferenceJob", "DetectAnything"])
def test_an_unknown_operation_is_refused(
    server: LocalServer, protocol: str, operation: str
) -> None:
    answer = post(server, protocol, operation, b"")
    assert answer.status == 400
    assert answer.members["__type"].endswith("UnknownOperationException")


def test_an_error_is_sent_as_aws_json(server: LocalServer) -> None:
    answer = post(server, JSON, DESCRIBE, encoded(JSON, {"JobId": JOB_ID}))
    assert answer.status == 400
    assert answer.members == {
        "__type": "ResourceNotFoundException",
        "Message": "The job was not found.",
    }
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"


def test_an_error_is_sent_as_cbor_with_the_full_name_of_its_shape(server: LocalServer) -> None:
    answer = post(server, CBOR, DESCRIBE, encoded(CBOR, {"JobId": JOB_ID}))
    assert answer.status == 400
    assert answer.members == {
        "__type": "com.amazonaws.comprehendmedical#ResourceNotFoundException",
        "Message": "The job was not found.",
    }
    assert answer.headers["content-type"] == "application/cbor"
    assert answer.headers["smithy-protocol"] == "rpc-v2-cbor"


@both
def test_every_response_has_its_own_request_id(server: LocalServer, protocol: str) -> None:
    ids = {post(server, protocol, LIST, b"").headers["x-amzn-requestid"] for _ in range(2)}
    assert len(ids) == 2


@both
@pytest.mark.parametrize(
    ("authorization", "region"),
    [
        (
            "AWS4-HMAC-SHA256 Credential=AK/20310102/eu-west-1/comprehendmedical/aws4_request,"
            " SignedHeaders=host, Signature=0",
            "eu-west-1",
        ),
        ("", "us-east-1"),
        ("Bearer something", "us-east-1"),
    ],
    ids=["signed", "none", "another kind"],
)
def test_the_region_comes_from_the_signature(
    server: LocalServer, protocol: str, authorization: str, region: str
) -> None:
    job_id = server.service.perform(START, start_members(), region)["JobId"]
    answer = post(server, protocol, LIST, b"", Authorization=authorization)
    (job,) = answer.members["ComprehendMedicalAsyncJobPropertiesList"]
    assert job["JobId"] == job_id


def test_a_bucket_may_be_called_service(server: LocalServer, s3: Any) -> None:
    s3.create_bucket(Bucket="service")
    key = f"ComprehendMedical_20181030/operation/{LIST}"
    s3.put_object(Bucket="service", Key=key, Body=b"body")
    assert s3.get_object(Bucket="service", Key=key)["Body"].read() == b"body"


# --- Through botocore -----------------------------------------------------------------------------


def session_for(protocol: str) -> boto3.Session:
    """Return a session whose clients for Comprehend Medical use the protocol."""
    if protocol not in getattr(botocore.model, "PRIORITY_ORDERED_SUPPORTED_PROTOCOLS", (JSON,)):
        pytest.skip("this botocore does not speak CBOR")
    session: Any = botocore.session.Session()
    loader = session.get_component("data_loader")
    metadata = loader.load_service_model("comprehendmedical", "service-2")["metadata"]
    metadata["protocols"] = [protocol]
    return boto3.Session(region_name="us-east-1", botocore_session=session)


@pytest.fixture
def sent() -> list[str]:
    """The content types of all requests for Comprehend Medical that `client_for` sends."""
    return []


@pytest.fixture
def client_for(make_client: Callable[..., PHIClient], sent: list[str]) -> Callable[..., PHIClient]:
    """Build clients that use the protocol."""

    def client_for(protocol: str, **options: Any) -> PHIClient:
        session = session_for(protocol)

        def note(request: Any, **_: object) -> None:
            sent.append(str(request.headers["Content-Type"], "ascii"))

        session.events.register("before-send.comprehendmedical", note)
        return make_client(session=session, **options)

    return client_for


@both
def test_the_sdk_takes_a_job_from_start_to_results(
    client_for: Callable[..., PHIClient],
    s3: Any,
    request_: StartPHIDetectionJobRequest,
    protocol: str,
    sent: list[str],
) -> None:
    client = client_for(protocol, s3_client=s3)
    job = client.submit(request_)
    assert job.wait().job_status is JobStatus.COMPLETED
    assert [text for _, text in job.results().redacted()] == [
        "Patient: [NAME], phone [PHONE_OR_FAX]"
    ]
    assert [listed.job_id for listed in client.list_phi_detection_jobs()] == [job.job_id]
    assert set(sent) == {{JSON: "application/x-amz-json-1.1", CBOR: "application/cbor"}[protocol]}


@both
@pytest.mark.parametrize("fault", PASSING_FAULTS.values(), ids=list(PASSING_FAULTS))
def test_a_start_survives_faults_in_both_protocols(
    client_for: Callable[..., PHIClient],
    server: LocalServer,
    request_: StartPHIDetectionJobRequest,
    protocol: str,
    fault: Fault,
) -> None:
    server.service.script(fault, fault)
    job = client_for(protocol).submit(request_)
    assert server.service.job_ids == (job.job_id,)
    assert server.service.attempts(START) == 3


@both
def test_phi_in_one_text_is_detected_in_both_protocols(
    client_for: Callable[..., PHIClient], protocol: str
) -> None:
    text = "\U0001f642 Patient: Ada Example"
    response = client_for(protocol).detect_phi(text)
    assert redact(text, response.entities) == "\U0001f642 Patient: [NAME]"
    assert response.model_version


@both
def test_an_error_raises_the_same_class_in_both_protocols(
    client_for: Callable[..., PHIClient], server: LocalServer, protocol: str
) -> None:
    client = client_for(protocol, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(ResourceNotFoundException, match="The job was not found") as missing:
        client.describe_phi_detection_job(JOB_ID)
    assert missing.value.request_id
    server.service.script(faults.throttle())
    with pytest.raises(ThrottlingException, match="Rate exceeded"):
        client.describe_phi_detection_job(JOB_ID)


@both
def test_plain_boto3_uses_both_protocols_within_the_process(
    clock: FakeClock, protocol: str
) -> None:
    with local_service(clock=clock) as service:
        config = Config(retries={"total_max_attempts": 1})
        client: Any = session_for(protocol).client("comprehendmedical", config=config)
        job_id = client.start_phi_detection_job(**start_members())["JobId"]
        assert service.job_ids == (job_id,)
        described = client.describe_phi_detection_job(JobId=job_id)
        assert described["ComprehendMedicalAsyncJobProperties"]["SubmitTime"] == clock.now()
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.stop_phi_detection_job(JobId=JOB_ID)
