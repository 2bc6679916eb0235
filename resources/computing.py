"""Where the work is done: the sections `spark` and `gpu` of `fleet.yaml`. No result depends on them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from resources.section import Positive, Section

LOCAL = "local[*,4]"
CPU = "cpu"
_MASTERS = r"local(\[(\*|\d+)(, ?\d+)?\])?|spark://[^\s/]+:\d+(,[^\s/]+:\d+)*|yarn|k8s://\S+"
# what Spark itself hides in its logs: `spark.redaction.regex`, https://spark.apache.org/docs/latest/configuration.html
_SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)
OWNED_CONF = {
    "spark.master": "spark.master",
    "spark.driver.memory": "spark.memory",
    "spark.executor.memory": "spark.executor_memory",
    "spark.executor.cores": "spark.cores",
    "spark.executor.instances": "spark.executors",
    "spark.jars.packages": "spark.packages",
    "spark.archives": "spark.environment",
    "spark.pyspark.python": "spark.python",
    "spark.ui.enabled": "spark.ui",
    "spark.executor.resource.gpu.amount": "gpu.per_executor",
    "spark.executor.resource.gpu.discoveryScript": "gpu.discovery_script",
    "spark.task.resource.gpu.amount": "gpu.per_task",
}

OF_CLUSTERS = (
    "spark.executor_memory", "spark.cores", "spark.executors", "spark.environment", "spark.python", "spark.variables",
    "gpu.per_executor",
)  # fmt: skip
EXAMPLES = {
    "spark": "write {master: spark://host:7077, executor_memory: 8g, environment: environment.tar.gz}",
    "spark.master": "write local[*], spark://host:7077, yarn or k8s://https://host:6443",
    "spark.memory": "write a number with m, g or t such as 4g",
    "spark.executor_memory": "write a number with m, g or t such as 8g",
    "spark.environment": "write what venv-pack or conda-pack made, such as environment.tar.gz",
    "spark.conf": "write Spark's own keys such as {spark.sql.shuffle.partitions: 200}",
    "spark.variables": "write names such as [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY]",
    "gpu": "write {device: gpu, per_task: 0.25, minimum_rows: 100000}",
    "gpu.device": "write cpu, gpu (OpenCL) or cuda",
    "gpu.per_task": "write the share of a GPU that one task needs such as 0.25",
    "gpu.minimum_rows": "write auto (see fleet calibrate) or a number of rows such as 100000",
}


def is_local_master(master: str) -> bool:
    """Whether Spark runs in this process, rather than on a cluster."""
    return master.startswith("local")


def _master(value: str) -> str:
    if value.startswith("sc://"):
        raise ValueError(
            f"{value!r} is Spark Connect, which has no accumulators, profiles by task or files for workers"
        )
    if not re.fullmatch(_MASTERS, value):
        raise ValueError(f"{value!r} is no master; write local[*], spark://host:7077, yarn or k8s://https://host:6443")
    return value


def _conf(value: dict[str, Any]) -> dict[str, Any]:
    owned = [f"{key} (use {OWNED_CONF[key]})" for key in value if key in OWNED_CONF]
    if owned:
        raise ValueError(f"set elsewhere: {', '.join(owned)}")
    foreign = [key for key in value if not key.startswith("spark.")]
    if foreign:
        raise ValueError(f"{', '.join(foreign)}: Spark's own keys begin with `spark.`")
    return value


def _share(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{value:g} of a GPU cannot be given to a task; write more than 0 and at most 1, such as 0.25")
    return value


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(f"{value!r} is no environment variable; write its name, not its value")
    return value


def _packed(value: str) -> str:
    if not value.endswith((".tar.gz", ".tgz")):
        raise ValueError(f"{value!r} is no .tar.gz, the one kind that Spark unpacks with programs that can be started")
    return value


def _least_rows(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or value < 1):
        raise ValueError(f"{value!r} is no number of rows")
    return value


Memory = Annotated[str, Field(pattern=r"^[1-9]\d*[mgt]$")]
Path = Annotated[str, Field(min_length=1)]


class SparkSettings(Section):
    """The Spark that does the work: in this process, or on a cluster, and what reaches its workers.

    `memory` is the driver's; `executor_memory` and `cores` are each executor's; `variables` names variables of the
    environment that workers are given too (secrets); `environment` is a packed Python environment, `python` the
    interpreter of one that is installed on each worker; `packages` are Maven coordinates.
    """

    master: Annotated[str, AfterValidator(_master)] = LOCAL
    memory: Memory = "4g"
    executor_memory: Memory | None = None
    cores: Positive | None = None
    executors: Positive | None = None
    environment: Annotated[Path, AfterValidator(_packed)] | None = None
    python: Path | None = None
    packages: list[Path] = []
    variables: list[Annotated[str, AfterValidator(_variable)]] = []
    conf: Annotated[dict[str, str | int | float | bool], AfterValidator(_conf)] = {}
    ui: bool = False


class Gpu(Section):
    """Which segments are fitted on GPUs, and how many tasks share one.

    `gpu` is LightGBM's OpenCL device, `cuda` needs LightGBM built from source. `minimum_rows: auto` is what `fleet
    calibrate` found. `per_executor` is how many GPUs each executor asks for; `platform` is OpenCL's.
    """

    device: Literal["cpu", "gpu", "cuda"] = "cpu"
    per_task: Annotated[float, AfterValidator(_share)] = 1.0
    per_executor: Positive = 1
    minimum_rows: Annotated[Positive | Literal["auto"], BeforeValidator(_least_rows)] = "auto"
    double_precision: bool = True
    platform: Annotated[int, Field(ge=0)] = 0
    discovery_script: Path | None = None


def contradictions(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Keys that are fine alone but not together: each with what is wrong and its remedy.

    Of the parsed `fleet.yaml`; tolerant of values of wrong type, which are reported elsewhere.
    """
    spark, found = _keys(document, "spark"), []
    if is_local_master(str(spark.get("master", LOCAL))):
        remedy = "name a cluster as spark.master, or remove this key"
        for key in OF_CLUSTERS:
            section, _, inner = key.partition(".")
            if _keys(document, section).get(inner) is not None:
                found.append((key, "means nothing without a cluster", remedy))
    if spark.get("environment") is not None and spark.get("python") is not None:
        what = "workers cannot use both this interpreter and the one of spark.environment"
        found.append(("spark.python", what, "keep one of the two"))
    remedy = "export it, and name its variable in spark.variables"
    # said here, where the value is not: a validator's message shows it
    found += [
        (f"spark.conf.{key}", "is a secret, which has no place in a file", remedy)
        for key in _keys(spark, "conf")
        if isinstance(key, str) and _SECRET.search(key)
    ]
    return found


def _keys(document: dict[str, Any], section: str) -> dict[str, Any]:
    value = document.get(section)
    return value if isinstance(value, dict) else {}
