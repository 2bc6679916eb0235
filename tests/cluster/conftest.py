"""One cluster for all of these tests: a master and two workers, each of two cores with a GPU address of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cluster import Cluster
from tests.cluster.driver import Driver
from tests.lakes import trained

__all__ = ["trained"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster; its processes know nothing of this repository."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.start()
        for number in range(2):
            made.add_worker(f"worker{number}", cores=2, memory="1g", gpus=[str(number)])
        made.wait_for_workers(2)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the driver that is shared has its fleet."""
    return tmp_path_factory.mktemp("home") / "fleet"


@pytest.fixture(scope="class")
def driver() -> Iterator[Driver]:
    """A driver for the tests of a class; while its session lasts nobody else gets any of the cluster's cores."""
    made = Driver()
    yield made
    made.close()
