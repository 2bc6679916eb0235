"""`fleet.yaml`: the only file a user writes, as typed settings."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from resources.computing import Gpu, SparkSettings, is_local_master
from resources.contract import Contract
from resources.deployment import Dagster, Mlflow, Schedule
from resources.environment import resolved
from resources.judging import Checks, Evaluation, Failures, Forecasts, Promotion
from resources.location import absolute, is_local, lake_problems
from resources.monitoring import Drift, Notify
from resources.problems import InputError, Problem
from resources.section import Names, Positive, Section
from resources.tuning import Tuning

CONFIG_VARIABLE, TARGET_VARIABLE = "FLEET_CONFIG", "FLEET_TARGET"
REPOSITORY_ROOT = Path(__file__).resolve().parent.parent

CalendarFeature = Literal[
    "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "week_of_year",
    "month", "quarter", "year", "trend",
]  # fmt: skip
Statistic = Literal["mean", "std", "min", "max", "sum"]
Objective = Literal[
    "regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie",
    "binary",
]  # fmt: skip
# sections that say where a fleet is made and kept, how it is watched, by whom and how long: no result depends on them
SHAPES_NOTHING = ("lake", "owner", "schedule", "mlflow", "dagster", "retention", "drift", "notify", "spark", "gpu")
_ONE_THREAD = "nothing: each model trains on one thread, so that results repeat"
_OWNERS = {
    "model.objective": "objective objective_type app application loss",
    "model.rounds": "num_iterations num_iteration n_iter num_tree num_trees num_round num_rounds nrounds "
    "num_boost_round n_estimators max_iter",
    "model.seed": "seed random_seed random_state",
    _ONE_THREAD: "num_threads num_thread nthread nthreads n_jobs",
    "nothing: training is always deterministic": "deterministic",
    "the section gpu": "device_type device gpu_platform_id gpu_device_id gpu_use_dp num_gpu",
}
# LightGBM's names and aliases (see its Parameters page) -> what to use instead
OWNED_PARAMETERS = {name: owner for owner, names in _OWNERS.items() for name in names.split()}


def _owner(value: str) -> str:
    if not re.fullmatch(r"team:\S+|[^@\s]+@[^@\s]+", value):
        raise ValueError(f"{value!r} is no owner; write an address such as me@example.com or team:forecasting")
    return value


def _frequency(value: str) -> str:
    import pandas as pd

    try:
        offset = pd.tseries.frequencies.to_offset(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a pandas frequency; write h, D, B, W-FRI, MS ...") from error
    if offset.n <= 0:
        raise ValueError(f"{value!r} does not go forward; write h, D, B, W-FRI, MS ...")
    return value


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    owned = [f"{key} (use {OWNED_PARAMETERS[key]})" for key in value if key in OWNED_PARAMETERS]
    if owned:
        raise ValueError(f"set elsewhere: {', '.join(owned)}")
    nested = [key for key, item in value.items() if not isinstance(item, str | int | float | bool)]
    if nested:
        raise ValueError(f"{', '.join(nested)}: LightGBM parameters are numbers, text or true/false")
    return value


def name_from(text: str) -> str:
    """The nearest name that a fleet can have: letters, digits and underscores, a letter first."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    return (plain if plain[:1].isalpha() else f"fleet_{plain}".rstrip("_"))[:100]


class Source(Section):
    """Where the table is: a file, folder, glob or URI, Spark's reader options, and names where there is no header.

    `watch`: whether files that arrive are ingested at once, while `make ui` or a Dagster daemon is up.
    """

    path: str = Field(min_length=1)
    format: Literal["parquet", "csv", "json", "delta", "sql"] | None = None
    query: Annotated[str, Field(min_length=1)] | None = None
    columns: Annotated[list[str], Field(min_length=1)] | None = None
    watch: bool = False
    options: dict[str, str | int | bool | float] = {}


class Rolling(Section):
    """Statistics of the label over windows of calendar periods that end a horizon ago."""

    windows: list[Annotated[int, Field(ge=2)]] = []
    statistics: list[Statistic] = ["mean", "std"]


class Features(Section):
    """What a model may look at. Absent keys are derived from the table's frequency.

    `at_origin`: the newest values and windows are those known when a row is forecast, one to a horizon of steps before
    it; without, all of them end a whole horizon before each row. Absent: if the history is 100 horizons long, and
    `lags` is not empty.
    """

    known_ahead: Names = []
    past_only: Names = []
    lags: list[Positive] | None = None
    rolling: Rolling | None = None
    at_origin: bool | None = None
    calendar: list[CalendarFeature] | None = None


class Model(Section):
    """LightGBM's part. Parameters left out follow the rows a segment has.

    `objective` follows the metric: `regression_l1` for `wape` and `mae` (of a segment whose labels are mostly zero,
    `tweedie`: the median would be nothing at all), else `regression`. `blend`: whether a segment may be served by
    several candidates, each with a weight; without, by the best of them alone.
    """

    objective: Objective | None = None
    rounds: Positive = 200
    label_transform: Literal["none", "log1p"] = "none"
    blend: bool = True
    params: Annotated[dict[str, Any], AfterValidator(_parameters)] = {}
    seed: int = 0


class FleetModel(Section):
    """The fleet-wide model, on at most so many rows, for segments without a model that has proven itself."""

    enabled: bool = True
    rows: Annotated[int, Field(ge=1_000)] = 500_000


class Retention(Section):
    """What `fleet prune` keeps: so many of the newest versions, and snapshots by number, whatever their age."""

    keep: Annotated[int, Field(ge=0)] = 8
    pinned: list[Annotated[int, Field(ge=0)]] = []


class Settings(Section):
    """One fleet, as its user wrote it. Paths are absolute once read by `read_settings`.

    Without `time` the table's rows have no order: they are held out by a hash of themselves, nothing is a horizon
    ahead, and a model looks at `features.known_ahead` only (by default: every column without another role).
    """

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")
    source: Source
    segment: Names = Field(min_length=1)
    time: Annotated[str, Field(min_length=1)] | None = None
    label: str = Field(min_length=1)
    frequency: Annotated[str, AfterValidator(_frequency)] | None = None
    horizon: Positive | None = None
    features: Features = Features()
    contract: Contract = Contract()
    model: Model = Model()
    fleet_model: FleetModel = FleetModel()
    tuning: Tuning = Tuning()
    failures: Failures = Failures()
    evaluation: Evaluation = Evaluation()
    promotion: Promotion = Promotion()
    forecasts: Forecasts = Forecasts()
    checks: Checks = Checks()
    drift: Drift = Drift()
    notify: Notify = Notify()
    schedule: Schedule = Schedule()
    mlflow: Mlflow = Mlflow()
    dagster: Dagster = Dagster()
    retention: Retention = Retention()
    spark: SparkSettings = SparkSettings()
    gpu: Gpu = Gpu()
    lake: str = Field("data/lake", min_length=1)
    owner: Annotated[str, AfterValidator(_owner)] = "team:fleet"

    @property
    def columns(self) -> list[str]:
        """Every column of the source that has a role: key, time, label, features."""
        return [*self.segment, *self.time_columns, self.label, *self.features.known_ahead, *self.features.past_only]

    @property
    def needed_columns(self) -> list[str]:
        """Every column of the source that must be there: those with a role and those of the contract."""
        return list(dict.fromkeys([*self.columns, *self.contract.columns]))

    @property
    def time_columns(self) -> list[str]:
        """The time column; none of a table without time."""
        return [self.time] if self.time else []

    @property
    def digest(self) -> str:
        """Digest of what shapes results: not where tables lie, who owns the fleet, when it runs or what it keeps."""
        elsewhere: dict[str, Any] = {**dict.fromkeys(SHAPES_NOTHING, True), "source": {"path"}}
        shaping = self.model_dump(mode="json", exclude=elsewhere)
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def partitions_name(self) -> str:
        """Name of the Dagster dynamic partition set that holds this fleet's segments."""
        return f"{self.name}_segments"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI, not resolved: configured, of the environment, or SQLite beside the lake."""
        exported = "${MLFLOW_TRACKING_URI}" if os.environ.get("MLFLOW_TRACKING_URI") else None
        return self.mlflow.tracking_uri or exported or self.own_store

    @property
    def own_store(self) -> str:
        """The embedded store of MLflow, beside a lake that is a folder."""
        return f"sqlite:///{self.lake}/mlflow/mlflow.db"


def read_settings(path: str | os.PathLike[str], target: str | None = None) -> Settings:
    """Settings from a `fleet.yaml` as they are for a target (by default that of FLEET_TARGET), with absolute paths.

    Raises:
        InputError: the file is missing, is not YAML, or has mistakes; all of them are listed.
    """
    file = Path(path).resolve()
    return _placed(settings_as_written(file, chosen_target() if target is None else target), file)


def settings_as_written(file: Path, target: str | None) -> Settings:
    """Settings of a target, or of none, whose folders and references are as they are written.

    Raises:
        InputError: as `read_settings`, but for what the environment lacks.
    """
    from resources.document import read_document
    from resources.settings_problems import passwords_written, problems_of
    from resources.targets import with_target

    document, lines = read_document(file)
    problems = passwords_written(document, lines, file.name)
    if isinstance(document, dict):
        document = with_target(document, lines, target or None, file.name)
    problems += problems_of(document, lines, file.name)
    if problems:
        raise InputError(problems)
    return Settings.model_validate(document)


def _placed(settings: Settings, file: Path) -> Settings:
    """The settings with absolute paths: relative ones are meant from the file's folder."""
    folder, name = file.parent, file.name
    path, home = settings.source.path, settings.dagster.home
    if settings.source.format != "sql":  # a query's address keeps its references, which may be passwords
        path = resolved(path, f"{name} source.path")
    source = settings.source.model_copy(update={"path": absolute(path, folder)})
    lake = absolute(resolved(settings.lake, f"{name} lake"), folder)
    problems = lake_problems(lake, name)
    if not is_local(lake) and settings.tracking_uri == settings.own_store:
        what = "is not set, and MLflow's embedded store cannot lie in a bucket"
        remedy = "name MLflow's server, such as http://host:5000"
        problems.append(Problem(f"{name} mlflow.tracking_uri", what, remedy))
    if problems:
        raise InputError(problems)
    own_home = absolute(resolved(home, f"{name} dagster.home"), folder) if home else None
    dagster = settings.dagster.model_copy(update={"home": own_home})
    located = {"source": source, "lake": lake, "dagster": dagster, **_located(settings, folder)}
    return settings.model_copy(update=located)


def _located(settings: Settings, folder: Path) -> dict[str, Section]:
    """The sections that name files of this machine, with their whole paths."""
    packed, script = settings.spark.environment, settings.gpu.discovery_script
    spark = {"environment": absolute(packed, folder)} if packed else {}
    # of a cluster the script lies on the workers
    here = script and is_local_master(settings.spark.master)
    return {
        "spark": settings.spark.model_copy(update=spark),
        "gpu": settings.gpu.model_copy(
            update={"discovery_script": absolute(script, folder)} if here and script else {}
        ),
    }


def config_path() -> Path:
    """The `fleet.yaml` in force: FLEET_CONFIG, or the one in the repository root."""
    return Path(os.environ.get(CONFIG_VARIABLE) or REPOSITORY_ROOT / "fleet.yaml").resolve()


def chosen_target() -> str | None:
    """The target that FLEET_TARGET names, None if none is chosen."""
    return os.environ.get(TARGET_VARIABLE) or None
