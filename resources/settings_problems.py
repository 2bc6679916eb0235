"""Every mistake in a `fleet.yaml`, found at once and said with its line, key and remedy."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from resources.computing import EXAMPLES as OF_COMPUTING
from resources.computing import contradictions
from resources.document import Lines
from resources.environment import REFERENCE, USER_IN_URL, holds_a_secret, strings_of, without_passwords
from resources.judging import Metric, metrics_of
from resources.problems import Problem
from resources.settings import Settings
from resources.targets import TARGETS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

TYPE_NAMES = ("str", "int", "bool", "float")
COUNTED_IN_PERIODS = (
    "frequency", "horizon", "features.past_only", "features.lags", "features.rolling", "features.calendar",
    "evaluation.holdout", "evaluation.season", "forecasts.closed_after",
)  # fmt: skip


def passwords_written(document: Any, lines: Lines, name: str) -> list[Problem]:
    """Passwords that stand in the file, whatever target they are for: their place is the environment."""
    remedy = "write ${NAME} in its place, and export NAME"
    return [
        Problem(lines.where(key, name), "holds a password", remedy)
        for key, text in strings_of(document)
        if holds_a_secret(key, text)
    ]


def problems_of(document: Any, lines: Lines, name: str) -> list[Problem]:
    """All problems of a parsed `fleet.yaml`: types, unknown keys, impossible combinations."""
    if not isinstance(document, dict):
        required = "name, source, segment, label (and time, if the table has one)"
        return [Problem(name, "holds no settings", f"write at least {required}")]
    found: list[Problem] = []
    try:
        Settings.model_validate(document)
    except ValidationError as error:
        # a value that is none of several types is one mistake, which pydantic reports for each of the types
        by_place = {problem.where: problem for problem in (_problem(e, lines, name) for e in error.errors())}
        found += by_place.values()
    found += impossible_combinations(document, lines, name)
    return list(dict.fromkeys(found))


def _problem(error: ErrorDetails, lines: Lines, name: str) -> Problem:
    keys = [str(part) for part in error["loc"]]
    if keys[-1:] and keys[-1] in TYPE_NAMES and keys[:2] == ["source", "options"]:
        keys = keys[:-1]
    where = lines.where(".".join(keys), name)
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return Problem(where, "unknown key", _nearest_key(keys))
    if kind == "missing":
        return Problem(where, "is missing", _example(keys))
    given = error.get("input")
    shown = without_passwords(repr(given))
    return Problem(where, f"{message[0].lower()}{message[1:]}, got {shown}", _example(keys))


def _nearest_key(keys: list[str]) -> str:
    section: Any = Settings
    many = False  # whether the next key is a name or a number in a collection of sections
    for key in keys[:-1]:
        if many:
            many = False
            continue
        field = section.model_fields.get(key) if _is_section(section) else None
        section = _section_of(field.annotation) if field else None
        many = field is not None and get_origin(field.annotation) in (dict, list)
    if not _is_section(section):
        return "remove it"
    known = [*section.model_fields, *([TARGETS] if section is Settings else [])]
    near = difflib.get_close_matches(keys[-1], known, n=1)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _section_of(annotation: Any) -> Any:
    if _is_section(annotation):
        return annotation
    return next((part for part in getattr(annotation, "__args__", ()) if _is_section(part)), None)


EXAMPLES = {
    "name": "write letters, digits and _ such as store_sales",
    "source": "write {path: data/sales.parquet}",
    "source.path": "write a file, folder, glob or URI such as data/sales.parquet",
    "source.format": "write parquet, csv, json, delta or sql",
    "source.options": "write text, a number or true/false",
    "segment": "write a column or a list of columns such as [store, department]",
    "time": "write the name of the time column, or leave the key out if the table has none",
    "label": "write the name of the column to predict",
    "frequency": "write a pandas alias such as h, D, B, W-FRI, MS, or leave it out",
    "horizon": "write a whole number of periods such as 28",
    "features": "write a mapping with known_ahead, past_only, lags, rolling, calendar",
    "features.lags": "write whole numbers of periods such as [28, 35, 364]",
    "features.rolling": "write {windows: [7, 28], statistics: [mean, std]}",
    "features.calendar": "write names such as [day_of_week, month, trend]",
    "contract": "write a mapping with columns, aliases, expectations",
    "contract.columns": "write {price: {type: number, nullable: false, minimum: 0}}",
    "contract.aliases": "write {sales: [old_name]}",
    "contract.expectations": "write [{name: price_known, predicate: price is not null, action: drop, tolerance: 0.01}]",
    "source.query": "write a query such as select * from sales order by day, shop",
    "source.columns": "write the names of the columns in their order",
    "model": "write a mapping with objective, rounds, label_transform, params, seed",
    "model.rounds": "write a whole number of trees such as 200",
    "tuning": "write {enabled: true, budget: 10%, first_run: true}",
    "evaluation": "write a mapping with holdout, metric, season, minimum_history, each in whole periods",
    "forecasts": "write {closed_after: 28}",
    "drift": "write {rate: 0.05, effect: 0.3, window: 28, cooldown: 7, fleet_share: 0.3, worst: 5, retrain: true}",
    "notify": "write {ui: http://fleet.example.com:3000, warnings: true, champion_age: 28, late: 60}",
    "notify.ui": "write the address of Dagster's web page such as http://fleet.example.com:3000",
    "schedule": "write a mapping with cron, timezone, enabled",
    "schedule.cron": "write '0 3 * * 1' for Mondays at three in the morning",
    "schedule.timezone": "write Asia/Tokyo, Europe/Berlin or UTC",
    "retention": "write {keep: 8, pinned: [3, 7]}: versions to keep, and snapshots to keep whatever their age",
    "lake": "write a folder such as data/lake, or a bucket such as s3://sales/fleet",
    "dagster": "write {home: /srv/dagster, storage: '${DAGSTER_POSTGRES_URL}', webserver: http://127.0.0.1:3000}",
    "model.params": "write LightGBM parameters such as {learning_rate: 0.05}",
    **OF_COMPUTING,
}


def _example(keys: list[str]) -> str:
    for end in range(len(keys), 0, -1):
        if example := EXAMPLES.get(".".join(keys[:end])):
            return example
    return ""


def impossible_combinations(document: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    """Values that are fine alone but not together; tolerant of values of wrong type (reported elsewhere)."""
    features = _mapping(document.get("features"))
    horizon = document.get("horizon")
    found = [*_columns_named_twice(document, features, lines, name), *_in_need_of_time(document, lines, name)]
    found += _former_names_in_use(document, features, lines, name)
    found += [*_contradicted_roles(document, lines, name), *_query_alone(document, lines, name)]
    found += [*_metric_of_another_objective(document, lines, name), *_user_of_files(document, lines, name)]
    found += [Problem(lines.where(key, name), *said) for key, *said in contradictions(document)]
    lags = features.get("lags")
    if isinstance(horizon, int) and isinstance(lags, list):
        found += [
            Problem(
                lines.where("features.lags", name),
                f"a lag of {lag} is shorter than the horizon of {horizon}: "
                "its value is not known yet when the forecast is made",
                f"write {horizon} or more, or shorten the horizon",
            )
            for lag in lags
            if isinstance(lag, int) and 1 <= lag < horizon
        ]
    return found


def _contradicted_roles(document: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    """Types in the contract that a column's role rules out."""
    columns, found = _mapping(_mapping(document.get("contract")).get("columns")), []
    for role, usable in (("label", ("number", "boolean")), ("time", ("time",))):
        column = document.get(role)
        declared = _mapping(columns.get(column)).get("type") if isinstance(column, str) else None
        if declared is not None and declared not in usable:
            where = lines.where(f"contract.columns.{column}.type", name)
            found.append(Problem(where, f"the {role} cannot be {declared}", f"write {' or '.join(usable)}"))
    return found


def _former_names_in_use(document: dict[str, Any], features: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    """Former names of a column that are the present name of another."""
    contract = _mapping(document.get("contract"))
    given = [document.get(key) for key in ("segment", "time", "label")] + [
        features.get("known_ahead"),
        features.get("past_only"),
    ]
    present = {item for value in given for item in (value if isinstance(value, list) else [value])}
    present |= set(_mapping(contract.get("columns")))
    found = []
    for column, former in _mapping(contract.get("aliases")).items():
        for each in former if isinstance(former, list) else [former]:
            if each in present:
                where = lines.where(f"contract.aliases.{column}", name)
                found.append(
                    Problem(where, f"{each!r} has a role of its own", "a former name stands for one column only")
                )
    return found


def _metric_of_another_objective(document: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    """A metric that means nothing for the objective, and what a probability cannot be put through."""
    model, found = _mapping(document.get("model")), []
    objective, metric = model.get("objective") or "regression", _mapping(document.get("evaluation")).get("metric")
    usable = metrics_of(objective) if isinstance(objective, str) else ()
    if metric in get_args(Metric) and metric not in usable:
        what = f"{metric} means nothing for the objective {objective!r}"
        remedy = f"write {' or '.join(usable)}, or leave it out"
        found.append(Problem(lines.where("evaluation.metric", name), what, remedy))
    if objective == "binary" and model.get("label_transform", "none") != "none":
        where = lines.where("model.label_transform", name)
        found.append(Problem(where, "a label of 0 and 1 is not transformed", "remove it, or choose another objective"))
    return found


def _user_of_files(document: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    """A password for files, whose addresses go to the lake with their rows."""
    source = _mapping(document.get("source"))
    user = USER_IN_URL.search(str(source.get("path")))
    if source.get("format") == "sql" or not user or not REFERENCE.search(user.group()):
        return []
    remedy = "export the store's own variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return [Problem(lines.where("source.path", name), "files are not read with a password in their address", remedy)]


def _query_alone(document: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    """A query without a database, and a database without a query."""
    source = _mapping(document.get("source"))
    if (source.get("format") == "sql") == (source.get("query") is not None):
        return []
    if source.get("format") == "sql":
        return [Problem(lines.where("source.query", name), "is missing", EXAMPLES["source.query"])]
    remedy = "write format: sql, and the database's URL as source.path"
    return [Problem(lines.where("source.query", name), "means nothing without `format: sql`", remedy)]


def _in_need_of_time(document: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    """Keys that count calendar periods, in a fleet whose table has no time column."""
    if document.get("time") is not None:
        return []
    remedy = "name the table's time column (time: date), or remove this key"
    found = []
    for key in COUNTED_IN_PERIODS:
        section, _, inner = key.rpartition(".")
        if (_mapping(document.get(section)) if section else document).get(inner) is not None:
            found.append(Problem(lines.where(key, name), "means nothing without `time`", remedy))
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _columns_named_twice(document: dict[str, Any], features: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    roles: list[tuple[str, str]] = []
    for key, value in [
        ("segment", document.get("segment")),
        ("time", document.get("time")),
        ("label", document.get("label")),
        ("features.known_ahead", features.get("known_ahead")),
        ("features.past_only", features.get("past_only")),
    ]:
        names = value if isinstance(value, list) else [value]
        roles += [(item, key) for item in names if isinstance(item, str)]
    counts = Counter(column for column, _ in roles)
    return [
        Problem(
            lines.where([key for item, key in roles if item == column][-1], name),
            f"column {column!r} is named {count} times ({', '.join(k for c, k in roles if c == column)})",
            "a column has one role: keep one of them",
        )
        for column, count in counts.items()
        if count > 1
    ]
