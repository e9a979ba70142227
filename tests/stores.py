"""An S3 server of this machine, for tests and a benchmark."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an empty bucket."""
    with served() as bucket:
        yield bucket


@contextmanager
def served() -> Iterator[str]:
    """The URL of an empty bucket of a server in a thread of this process, which it and its children reach as S3's own
    are reached."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
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
    """The sizes of the objects below a URL, by their names there."""
    _, _, bucket, prefix = f"{url}/".split("/", 3)
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {one["Key"].removeprefix(prefix): one["Size"] for page in pages for one in page.get("Contents", ())}


def put(url: str, body: bytes) -> None:
    _, _, bucket, key = url.split("/", 3)
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def delete(url: str) -> None:
    _, _, bucket, key = url.split("/", 3)
    boto3.client("s3").delete_object(Bucket=bucket, Key=key)
