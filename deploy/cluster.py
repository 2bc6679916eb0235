"""A Spark standalone cluster on this machine, from the PyPI wheel: a master, two workers, GPU addresses by script.

    python -m deploy.cluster --workers 2 --cores 1 --gpus 1     # until it is interrupted

The GPUs are addresses that a script names; with PoCL they are this machine's processor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from resources.cluster import offered_gpus

MASTER, WORKER = (f"org.apache.spark.deploy.{name}" for name in ("master.Master", "worker.Worker"))
HOST = "127.0.0.1"
STARTED_IN = 60.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


@dataclass
class Cluster:
    """A master and its workers, each in a process group of its own, with logs and work in a folder.

    With `account` (a user's number, which only root may give) they run as that user, who is at home in their folders.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    ui_port: int = field(default_factory=free_port)
    account: int | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def master(self) -> str:
        """The address for `spark.master`."""
        return f"spark://{HOST}:{self.port}"

    def start(self) -> None:
        """Starts the master, and returns once it answers."""
        self._launch("master", MASTER, ["--host", HOST, "--port", str(self.port), "--webui-port", str(self.ui_port)])
        waited_for(lambda: self.offered() is not None, "the master")

    def add_worker(self, name: str, cores: int, memory: str, gpus: list[str]) -> None:
        """Starts a worker that offers some GPU addresses."""
        own = self.folder / name
        self._own_folder(name)
        options = ["--host", HOST, "--cores", str(cores), "--memory", memory, "--work-dir", str(own / "work")]
        if gpus:
            properties = own / "worker.properties"
            properties.write_text(
                f"spark.worker.resource.gpu.amount {len(gpus)}\n"
                f"spark.worker.resource.gpu.discoveryScript {discovery_script(own, gpus)}\n"
            )
            options += ["--properties-file", str(properties)]
        self._launch(name, WORKER, [*options, "--webui-port", str(free_port()), self.master])

    def offered(self) -> list[int] | None:
        """GPUs that each living worker offers; None while the master does not answer."""
        return offered_gpus(self.master, self.ui_port)

    def wait_for_workers(self, count: int) -> None:
        """Returns once so many workers are there."""
        waited_for(lambda: len(self.offered() or []) >= count, f"worker {count}")

    def kill(self, name: str) -> None:
        """SIGKILL for a worker and its executors."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Ends every process of the cluster."""
        for name in list(self.processes)[::-1]:
            self.kill(name)

    def _launch(self, name: str, main: str, arguments: list[str]) -> None:
        import pyspark

        home = Path(pyspark.__file__).parent
        own = self._own_folder(name)
        # nothing of this repository: what workers know of it must have been shipped
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "JAVA_HOME", "LANG") if key in os.environ}
        environment = {**kept, "SPARK_HOME": str(home), "SPARK_LOCAL_DIRS": str(own / "scratch")}
        if self.account is not None:
            environment |= {"HOME": str(own), "TMPDIR": str(own)}
        with (own / "log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(home / "bin" / "spark-class"), main, *arguments],
                cwd=own,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.account,
                group=self.account,
                extra_groups=None if self.account is None else [],
            )

    def _own_folder(self, name: str) -> Path:
        own = self.folder / name
        own.mkdir(exist_ok=True)
        if self.account is not None:
            os.chown(own, self.account, self.account)
        return own


def discovery_script(folder: Path, addresses: list[str]) -> Path:
    """A script that offers some GPU addresses, as Spark asks for them."""
    listed = ", ".join(f'"{address}"' for address in addresses)
    script = folder / "gpus.sh"
    script.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": [{listed}]}}\'\n')
    script.chmod(0o755)
    return script


def waited_for(happened: object, what: str, seconds: float = STARTED_IN) -> None:
    """Returns once `happened()` is true.

    Raises:
        TimeoutError: it was not within so many seconds.
    """
    assert callable(happened)
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.1)


def main() -> None:
    """Starts a cluster and keeps it until it is interrupted."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--cores", type=int, default=1, help="of each worker")
    options.add_argument("--memory", default="2g", help="of each worker")
    options.add_argument("--gpus", type=int, default=1, help="addresses that each worker offers")
    options.add_argument("--port", type=int, default=7077)
    options.add_argument("--ui-port", type=int, default=8080, help="of the master's page")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet_cluster_") as folder:
        cluster = Cluster(Path(folder), given.port, given.ui_port)
        try:
            cluster.start()
            for number in range(given.workers):
                first = number * given.gpus
                addresses = [str(first + place) for place in range(given.gpus)]
                cluster.add_worker(f"worker{number}", given.cores, given.memory, addresses)
            cluster.wait_for_workers(given.workers)
            print(
                f"spark: {{master: {cluster.master}, executor_memory: 1g}}   # in fleet.yaml; logs in {folder}",
                flush=True,
            )
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
