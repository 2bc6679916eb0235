"""What a Spark cluster needs and Spark in this process does not: addresses, the project's code, workers' Python."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from resources.problems import InputError, Problem
from resources.settings import REPOSITORY_ROOT

if TYPE_CHECKING:
    from pyspark import SparkContext

SHIPPED = ("assets", "resources")  # what workers import of this project
UNPACKED = "environment"  # the folder that a packed environment becomes on a worker
REACHED_IN = 5.0


def standalone_masters(master: str) -> list[tuple[str, int]]:
    """Host and port of each master of a standalone cluster's address; none of another's."""
    if not master.startswith("spark://"):
        return []
    parts = (part.rpartition(":") for part in master.removeprefix("spark://").split(","))
    return [(host, int(port)) for host, _, port in parts]


def require_master(master: str) -> None:
    """Makes sure that a standalone cluster answers: Spark itself would ask for a minute, and then say little.

    Raises:
        InputError: none of its masters can be reached.
    """
    masters = standalone_masters(master)
    if masters and not any(_answers(host, port) for host, port in masters):
        remedy = "start the cluster (make cluster), or correct the address"
        raise InputError([Problem("spark.master", f"{master} cannot be reached from this machine", remedy)])


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=REACHED_IN):
            return True
    except OSError:
        return False


def driver_address(master: str) -> dict[str, str]:
    """Where workers find the driver: the address by which this machine reaches the master; Spark's choice elsewhere."""
    masters = standalone_masters(master)
    for host, port in masters:
        try:
            with socket.create_connection((host, port), timeout=REACHED_IN) as connection:
                own = connection.getsockname()[0]
        except OSError:
            continue
        loopback = own.startswith("127.") or own == "::1"
        return {"spark.driver.host": own, "spark.driver.bindAddress": own if loopback else "0.0.0.0"}
    return {}


def ship_code(context: SparkContext) -> None:
    """Gives all workers of a session this project's packages, as they are here, before any other copy of theirs."""
    known = set(context.listFiles)
    path = packed_code()
    if not any(file.endswith(f"/{path.name}") for file in known):
        context.addPyFile(str(path))


def packed_code() -> Path:
    """A zip of this project's packages, named by its content; the same code gives the same file."""
    files = sorted(file for name in SHIPPED for file in (REPOSITORY_ROOT / name).rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(REPOSITORY_ROOT)}\0".encode() + file.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"fleet-code-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"fleet_{digest.hexdigest()[:16]}.zip"
    if not target.exists():
        temporary = target.with_suffix(f".{os.getpid()}.tmp")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(REPOSITORY_ROOT))
        temporary.replace(target)
    return target


def given_variables(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Spark's settings that give workers some variables of this process's environment.

    Raises:
        InputError: a variable is not set; all of them are named.
    """
    missing = [name for name in names if name not in os.environ]
    if missing:
        what = f"not set in the environment: {', '.join(missing)}"
        raise InputError([Problem("spark.variables", what, "export them, or take them out of the list")])
    for name in names:
        yield f"spark.executorEnv.{name}", os.environ[name]


def offered_gpus(master: str, ui_port: int) -> list[int] | None:
    """How many GPUs each worker of a standalone cluster offers; None where its master's page cannot be read.

    The page is the master's web page as JSON: https://spark.apache.org/docs/latest/spark-standalone.html
    """
    for host, _ in standalone_masters(master):
        try:
            with build_opener(ProxyHandler({})).open(f"http://{host}:{ui_port}/json/", timeout=REACHED_IN) as answer:
                page = json.load(answer)
        except (URLError, OSError, ValueError):
            continue
        return [_gpus_of(worker) for worker in page.get("workers", []) if worker.get("state") == "ALIVE"]
    return None


def _gpus_of(worker: dict[str, Any]) -> int:
    """GPUs of a worker, used or not: its `resources` are `{"gpu": {"name": "gpu", "addresses": ["0", "1"]}}`."""
    return len(worker.get("resources", {}).get("gpu", {}).get("addresses", []))
