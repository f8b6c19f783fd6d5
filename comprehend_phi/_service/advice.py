"""What to check when a call fails. The sentences name settings, never their values."""

from __future__ import annotations

_REGION_AND_ENDPOINT = (
    "the region (region_name, AWS_DEFAULT_REGION) and the endpoint (endpoint_url,"
    " AWS_ENDPOINT_URL_COMPREHENDMEDICAL, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL)."
)
_CA_BUNDLE = (
    "AWS_CA_BUNDLE, ca_bundle in the AWS config file, REQUESTS_CA_BUNDLE, or verify= of a boto3"
    " client"
)

ENDPOINT = f"Check {_REGION_AND_ENDPOINT}"
NETWORK = f"Check the network, {_REGION_AND_ENDPOINT}"
PROXY = "Check the proxy: HTTPS_PROXY, HTTP_PROXY, NO_PROXY and Config(proxies=...)."
TRUST = (
    "Check the endpoint. If a proxy or a private CA issues the certificates in your network,"
    f" configure its CA bundle: {_CA_BUNDLE}."
)
PEM_FILES = (
    f"Check that these files exist and contain certificates: {_CA_BUNDLE},"
    " Config(client_cert=...) and Config(proxies_config=...)."
)
CREDENTIALS = (
    "Check where boto3 gets its credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and"
    " AWS_SESSION_TOKEN, the profile (AWS_PROFILE, credential_process, role_arn),"
    " AWS_WEB_IDENTITY_TOKEN_FILE and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE."
)
SIGNATURE = (
    "Check the signature version: Config(signature_version=...) and signature_version in the AWS"
    " config file."
)
HEADERS = (
    "Check the access key id, the session token, the region and the user agent for line breaks and"
    " other invalid characters: AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN, AWS_DEFAULT_REGION,"
    " the AWS config files, and Config(user_agent=..., user_agent_extra=...)."
)
CONFIG = "Check config=."
CONFIG_FILES = (
    "Check the AWS config file (~/.aws/config or AWS_CONFIG_FILE), the credentials file"
    " (~/.aws/credentials or AWS_SHARED_CREDENTIALS_FILE), the profile (AWS_PROFILE) and config=."
)
TOO_LATE = "Build the client before the main thread ends."
