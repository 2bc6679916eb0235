"""Whether a cluster's workers are fit, found out before anything is trained: a small job that every executor runs."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.cluster import offered_gpus, standalone_masters
from resources.files import (
    WILDCARD,
    filesystem,
    folder_of_glob,
    missing_folders,
    remove_empty,
    remove_file,
    write_file,
)
from resources.location import is_local
from resources.problems import InputError, Problem

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

GPU = "gpu"  # the resource's name, to Spark
NEEDED = ("dagster", "lightgbm", "numpy", "pandas", "pyarrow", "deltalake")
REGISTERED_IN = {"spark": 60.0, "yarn": 300.0, "k8s": 300.0}
PROBES_AN_EXECUTOR, PROBE_SECONDS = 4, 0.1
WHERE = "spark.master"
OF_A_BUCKET = "name what they need to reach it in spark.variables, such as AWS_ACCESS_KEY_ID (docs/cluster.md)"


def versions() -> dict[str, str]:
    """What workers must have as the driver has it, or models are not the same: Python and LightGBM."""
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "LightGBM": _version("lightgbm")}


def require_versions(expected: Mapping[str, str]) -> None:
    """Run by a worker that may have joined late: refuses to work with other versions.

    Raises:
        InputError: a version is another.
    """
    if problems := _differences({"host": socket.gethostname(), "versions": versions()}, expected):
        raise InputError(problems)


def gpu_profile(per_task: float) -> ResourceProfile:
    """Tasks that need a share of a GPU each, in the executors that there are.

    https://spark.apache.org/docs/latest/configuration.html#stage-level-scheduling-overview
    """
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(1).resource(GPU, per_task)).build


def gpu_address() -> str | None:
    """The address of the GPU that Spark gave to the task that asks; None for a task without one."""
    from pyspark import TaskContext

    context = TaskContext.get()
    given = context.resources().get(GPU) if context else None
    return given.addresses[0] if given and given.addresses else None


def require_gpus(master: str, conf: Mapping[str, str], gpus: int) -> None:
    """Makes sure that a standalone cluster has a worker with the GPUs that an executor asks for.

    Without one Spark would wait for ever. Where the master's page cannot be read, `check_workers` finds out.

    Raises:
        InputError: no worker offers so many.
    """
    offered = offered_gpus(master, int(conf.get("spark.master.ui.port", "8080"))) if gpus else None
    if offered is not None and max(offered, default=0) < gpus:
        told = f"{len(offered)} workers offer {sum(offered)} GPUs, at most {max(offered, default=0)} each"
        remedy = "lower gpu.per_executor, or start workers with spark.worker.resource.gpu.amount and a discovery script"
        raise InputError([Problem("gpu.per_executor", f"an executor asks for {gpus}, but {told}", remedy)])


@contextmanager
def ended_unless_fit(session: SparkSession) -> Iterator[None]:
    """Ends a session whose workers are found not to be fit: it would hold their cores for nothing."""
    try:
        yield
    except BaseException:
        session.stop()
        raise


def check_workers(session: SparkSession, lake: str, table: str, gpus: int) -> None:
    """Asks every executor for its versions, whether it sees lake and table, and for its GPU if each is to hold one.

    Raises:
        InputError: no executor came; or some are not fit, and each of them is named.
    """
    _wait_for_executors(session, gpus)
    marker = f"{lake}/probe-{uuid.uuid4().hex}"
    new_folders = missing_folders(lake)
    write_file(marker, b"seen")
    try:
        looked_for = marker, *([place] if (place := _place_of(table)) else [])
        reports = _reports(session, looked_for, None)
        of_gpus = _reports(session, looked_for, gpu_profile(1.0)) if gpus else []
    finally:
        remove_file(marker)
        remove_empty(new_folders)
    shown = {marker: f"the lake {lake}", **{place: f"the table {place}" for place in looked_for[1:]}}
    problems = [problem for report in reports for problem in _problems(report, shown)]
    problems += [problem for report in of_gpus for problem in _of_gpu(report)]
    if problems:
        raise InputError(list(dict.fromkeys(problems)))


def _executors(session: SparkSession) -> int:
    java: Any = session.sparkContext._jsc
    return len(java.sc().statusTracker().getExecutorInfos()) - 1  # the driver is one of them


def _wait_for_executors(session: SparkSession, gpus: int) -> None:
    conf = session.sparkContext.getConf()
    patience = REGISTERED_IN.get(session.sparkContext.master.partition(":")[0], REGISTERED_IN["spark"])
    end = time.monotonic() + patience
    while _executors(session) < 1:
        if time.monotonic() > end:
            asked = (
                f"{conf.get('spark.executor.memory', '1g')} of memory, {conf.get('spark.executor.cores', 'all')} cores"
            )
            what = f"no executor came within {patience:g} s; each asks for {asked} and {gpus} GPUs"
            remedy = "ask for less, end or wait for what else holds the cluster, or look at the master's page"
            raise InputError([Problem(WHERE, what, remedy)])
        time.sleep(0.2)
    if standalone_masters(session.sparkContext.master):
        time.sleep(1.0)  # the others come at the same time


def _place_of(table: str) -> str | None:
    """What of a table workers must see; None where it is no file of this machine, or is not there."""
    folder = folder_of_glob(table) if re.search(WILDCARD, table) else table
    return folder if folder and "://" not in folder and Path(folder).exists() else None


def _reports(session: SparkSession, looked_for: Sequence[str], profile: ResourceProfile | None) -> list[dict[str, Any]]:
    """What each executor says of itself."""
    from resources.spark import spark_errors

    tasks = PROBES_AN_EXECUTOR * max(_executors(session), session.sparkContext.defaultParallelism)
    asked = session.sparkContext.parallelize(range(tasks), tasks).map(lambda _: _report(looked_for))
    try:
        said = (asked if profile is None else asked.withResources(profile)).collect()
    except spark_errors() as error:
        raise InputError([_of_failure(str(error))]) from None
    return [json.loads(report) for report in sorted(set(said))]


def _report(looked_for: Sequence[str]) -> str:
    """What a worker says of itself, as JSON."""
    time.sleep(PROBE_SECONDS)  # or the first executor would do all of it
    missing = [name for name in NEEDED if util.find_spec(name) is None]
    unseen = [path for path in looked_for if not _is_there(path)]
    about = {"host": socket.gethostname(), "folder": os.getcwd(), "address": gpu_address(), "unseen": unseen}
    return json.dumps({**about, "missing": missing, "versions": versions(), "code": __file__}, sort_keys=True)


def _is_there(path: str) -> bool:
    try:
        system, inside = filesystem(path)
        return bool(system.get_file_info(inside).type)
    except Exception:  # whatever a file system raises
        return False


def _problems(report: dict[str, Any], shown: Mapping[str, str]) -> Iterator[Problem]:
    where = f"worker {report['host']}"
    if report["missing"]:
        remedy = "give workers the driver's environment: spark.environment or spark.python (docs/cluster.md)"
        yield Problem(where, f"lacks {', '.join(report['missing'])}", remedy)
    else:
        yield from _differences(report, versions())
    for path in report["unseen"]:
        remedy = "mount it on all workers under the same path" if is_local(path) else OF_A_BUCKET
        yield Problem(where, f"does not see {shown[path]}", remedy)


def _differences(report: dict[str, Any], expected: Mapping[str, str]) -> list[Problem]:
    remedy = "give workers the driver's environment: spark.environment or spark.python (docs/cluster.md)"
    return [
        Problem(f"worker {report['host']}", f"has {name} {there}, the driver {expected[name]}", remedy)
        for name, there in report["versions"].items()
        if there != expected[name]
    ]


def _of_gpu(report: dict[str, Any]) -> Iterator[Problem]:
    if not str(report["address"]).isdecimal():
        remedy = "let the discovery script name devices by number, as LightGBM counts them: 0, 1 ..."
        yield Problem(f"worker {report['host']}", f"offers the GPU address {report['address']!r}", remedy)


def _of_failure(text: str) -> Problem:
    """What a job that could not even be run says of the workers."""
    remedy = "give workers the driver's environment: spark.environment or spark.python (docs/cluster.md)"
    for sign, what in (
        ("PYTHON_VERSION_MISMATCH", "workers have another Python than the driver"),
        ("Cannot run program", "workers lack the Python interpreter that they are told to use"),
        ("ModuleNotFoundError", "workers lack a module"),
    ):
        if sign in text:
            line = next((line.strip() for line in text.splitlines() if sign in line), "")
            return Problem(WHERE, f"{what} ({line[:300]})", remedy)
    return Problem(WHERE, f"workers cannot run a task: {text[:500]}", "see the executors' logs")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
