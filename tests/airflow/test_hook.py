"""The hook: clients with the settings of a connection."""

from __future__ import annotations

import json

import pytest

from comprehend_phi import TransportError
from comprehend_phi.airflow import PHIHook
from comprehend_phi.testing import LocalServer

from .conftest import CANARY, TickingClock
from .test_request import a_request


def test_a_client_starts_jobs_and_reads_results(hook: PHIHook, clock: TickingClock) -> None:
    with hook.phi_client() as client:
        job = client.submit(a_request(input_uri="s3://hospital-notes/one/"))
        clock.advance(50)

        [document] = job.results()

    assert document.input_key == "one/note.txt"


def test_the_connection_has_the_region_and_an_endpoint_for_each_service(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {name: {"endpoint_url": server.endpoint_url} for name in ("comprehendmedical", "s3")}
    extra = {"region_name": "eu-west-2", "service_config": services}
    connection = {"conn_type": "aws", "login": "l", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_LONDON", json.dumps(connection))

    with PHIHook("aws_london").phi_client() as client:
        assert list(client.list_phi_detection_jobs()) == []

    [received] = server.service.received
    assert received.operation == "ListPHIDetectionJobs"
    assert PHIHook("aws_london").region_name == "eu-west-2"


def test_verify_reaches_the_client(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.endpoint_url.replace("http:", "https:")
    extra = {"region_name": "us-east-1", "endpoint_url": url}
    connection = {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_VERIFY", json.dumps(connection))
    hook = PHIHook("aws_verify", verify="/no/such/bundle.pem")

    # The local service speaks no TLS, but the bundle is read before that matters.
    with hook.phi_client() as client, pytest.raises(TransportError) as caught:
        client.job("1").properties()

    assert "CA bundle" in str(caught.value)
    assert caught.value.attempts == 1


def test_an_error_of_the_connection_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"region_name": "us-east-1", "endpoint_url": CANARY}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_BROKEN", json.dumps({"conn_type": "aws", "extra": extra}))

    with pytest.raises(TransportError) as caught:
        PHIHook("aws_broken").phi_client()

    assert CANARY not in str(caught.value)
