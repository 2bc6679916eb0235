"""A bucket behind a real S3 server of this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.request import Request, urlopen

import pandas as pd
import pytest

from resources.spark import Spark

REACHED_BY = {
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip


class Bucket:
    """A bucket of an S3 server, and the folder `in` in it."""

    def __init__(self, client: Any, server: str) -> None:
        self._client, self._server = client, server
        client.create_bucket(Bucket="sales")

    def uri(self, name: str = "") -> str:
        """The URI of the folder, or of a file in it."""
        return f"s3://sales/in{name}?endpoint_override={self._server}&scheme=http&region=us-east-1"

    def put(self, name: str, table: pd.DataFrame | bytes) -> None:
        """Writes a file: a table as CSV, or bytes."""
        content = table if isinstance(table, bytes) else table.to_csv(index=False).encode()
        self._client.put_object(Bucket="sales", Key=f"in/{name}", Body=content)


@contextmanager
def serving(environment: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, with the keys to it in the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.setenv(name, "test")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # what earlier servers of this process held is there still
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST"))
    try:
        yield Bucket(boto3.client("s3", endpoint_url=f"http://{host}:{port}"), f"{host}:{port}")
    finally:
        server.stop()


@contextmanager
def served_bucket(environment: pytest.MonkeyPatch, spark: Spark | None = None) -> Iterator[str]:
    """The URI of an empty bucket, all that it takes to reach it being in the environment, and in that of Spark's workers.

    Its server is a process of its own: deltalake holds the interpreter while it waits for an answer.
    """
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    # workers of a session that is up have the environment that it began with
    workers = spark.session().sparkContext.environment if spark else {}
    for name, value in {**REACHED_BY, "AWS_ENDPOINT_URL": address}.items():
        environment.setenv(name, value)
        environment.setitem(workers, name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with suppress(OSError):
                urlopen(f"{address}/moto-api/", timeout=5).read()
                break
            time.sleep(0.1)
        boto3.client("s3").create_bucket(Bucket="lake")
        yield "s3://lake"
    finally:
        server.kill()
        server.wait()
