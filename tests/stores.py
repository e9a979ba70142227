"""A local S3 server for tests and a benchmark."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Yield the URL of an empty bucket."""
    with served() as bucket:
        yield bucket


@contextmanager
def served() -> Iterator[str]:
    """Start an S3 server in a thread and yield the URL of an empty bucket.

    This process and its children reach the server through the usual AWS environment variables.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # avoid a log line per request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "mine", "DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(f"AWS_{name}", value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.stop()


def objects(url: str) -> dict[str, int]:
    """Return {name relative to the URL: size} of the objects below a URL."""
    _, _, bucket, prefix = f"{url}/".split("/", 3)
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {entry["Key"].removeprefix(prefix): entry["Size"] for page in pages for entry in page.get("Contents", ())}


def put(url: str, body: bytes) -> None:
    _, _, bucket, key = url.split("/", 3)
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def delete(url: str) -> None:
    _, _, bucket, key = url.split("/", 3)
    boto3.client("s3").delete_object(Bucket=bucket, Key=key)
