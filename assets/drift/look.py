"""A look at the fleet: what came since each champion was trained, judged once and committed as the table `drift`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.code_version import code_version, version_of
from assets.drift import bucket as windows_of
from assets.drift.bucket import LINE, DriftTask, compared_columns, compared_features, drift_bucket, unpacked
from assets.drift.errors import error_evidence
from assets.drift.judgement import Judgement, judge, quiet_share
from assets.drift.multiplicity import e_benjamini_hochberg
from assets.drift.plan import NEVER, default_window, planned, tasks_plan
from assets.drift.rows import drift_rows, same_columns, told_of
from assets.drift.season import Seasons
from assets.drift.verdict import DRIFT
from assets.drift.windows import TESTS
from assets.evaluation.incumbent import Champion, answers
from assets.evaluation.judge import candidate
from assets.evaluation.live_errors import history_digest, scored_issues
from assets.features.publish import FeatureSet
from assets.features.rebuild import committed_files
from assets.models.store import shared_rows, trainings
from resources.files import write_parquet
from resources.lake import Lake
from resources.monitoring import Drift
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say, spread

CODE_VERSION = code_version(
    "assets.drift.bucket", "assets.drift.calibration", "assets.drift.dependence", "assets.drift.errors",
    "assets.drift.judgement", "assets.drift.multiplicity", "assets.drift.plan", "assets.drift.scores",
    "assets.drift.season", "assets.drift.statistics", "assets.drift.windows",
)  # fmt: skip
Floats = NDArray[np.float64]
HALF = 0.5  # of the rate of false alarms for the data, the other for the errors


@dataclass(frozen=True)
class Look:
    """A committed look and what is said of it; new if it is."""

    version: int
    record: dict[str, Any]
    is_new: bool


def look_at_drift(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    champion: Champion | None,
    say: Say | None = None,
) -> Look | None:
    """Commits what is found of every segment of the champion; nothing new if the evidence is what it was.

    None where nobody serves, or who serves answers another question than today's features.
    """
    table = lake.table(DRIFT)
    if champion is None or not answers(lake, champion, features.recipe):
        return None
    digest = _digest(lake, settings, features, champion)
    if table.record().get("digest") == digest:
        return Look(table.version() or 0, table.record(), False)
    drift, window = settings.drift, settings.drift.window or default_window(features.recipe.frequency)
    last, columns = features.profile.last_period, compared_columns(features.recipe)
    before = table.arrow() if table.exists() else None
    plan = planned(champion, trainings(lake), before, last, window)
    lines = _lines(lake, spark, settings, features, champion, tasks_plan(plan), say)
    told, said = _told(plan, lines, columns, drift)
    # in the order of the plan
    listing = champion.listing.sort_by("segment").combine_chunks()
    errors = error_evidence(lake, listing, plan["trained"].to_numpy(), last, settings.checks.live_error)
    by_error = e_benjamini_hochberg(pc.fill_null(errors["e_value"], float("nan")).to_numpy(), HALF * drift.rate)
    rows = drift_rows(plan, lines, told, errors, by_error, before if same_columns(table, columns) else None)
    record = {"digest": digest, "window": window, **said, **_said(features, champion, rows)}
    with table.staging() as staging:
        write_parquet(rows, f"{staging.uri}/drift.parquet")
        version = table.commit(staging, rows.schema, record)
    return Look(version, record, True)


def _digest(lake: Lake, settings: Settings, features: FeatureSet, champion: Champion) -> str:
    """Of what a look is made from: equal ones find the same."""
    history, drift = history_digest(scored_issues(lake)), settings.drift
    by = (drift.rate, drift.effect, drift.window, settings.checks.live_error)
    return version_of(features.digest, champion.tags["published"], history, *by, CODE_VERSION)


def _told(plan: pa.Table, lines: pa.Table, columns: list[str], drift: Drift) -> tuple[pa.Table, dict[str, Any]]:
    """What the data of the judged segments tell (see `rows.TOLD`), and how that was found."""
    judged = lines.filter(pc.equal(lines["state"], windows_of.JUDGED))
    judgement, effects, quiet = _judgement(plan, judged, columns, drift)
    said = {"columns": columns, "tests": list(TESTS), "calibrated": judgement.calibrated, "quiet": quiet}
    return told_of(judged, judgement, effects, columns), said


def _lines(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    champion: Champion,
    plan: pa.Table,
    say: Say | None,
) -> pa.Table:
    """What workers found of the planned segments, by segment; see `LINE`."""
    if not len(plan):
        return LINE.empty_table()
    files, recipe = committed_files(lake, features), features.recipe
    known = trainings(lake)
    trained_on = {name for key in champion.trainings if key in known for name in known[key].recipe.features}
    unseen = frozenset(name for name in compared_features(recipe) if name not in trained_on)
    with (
        shared_rows(lake, plan) as shared,
        candidate(lake, spark, settings, features, champion.listing) as fleet,
    ):
        seasons = Seasons.of(recipe.frequency)
        work = partial(drift_bucket, recipe=recipe, unseen=unseen, seasons=seasons, champion=fleet)
        wanted = set(plan["bucket"].unique().to_pylist())
        tasks = [DriftTask(bucket, own, shared) for bucket, own in files.items() if bucket in wanted]
        lines = spread(spark, tasks, work, LINE, short=True, what="drift", total=len(plan), say=say)
    return lines.sort_by("segment").combine_chunks()


def _judgement(plan: pa.Table, judged: pa.Table, columns: list[str], drift: Drift) -> tuple[Judgement, Floats, float]:
    """What the judged lines amount to, their effects, and what the same rule would have alarmed a window before."""
    effects = np.zeros((0, len(columns) * len(TESTS)))
    if not len(judged):
        return Judgement(np.zeros(0), effects, np.zeros(0, bool), effects > 0, True), effects, 0.0
    place = pc.index_in(judged["segment"], plan["segment"].combine_chunks()).to_numpy().astype(np.int64)
    statistics, effects = unpacked(judged, len(columns))
    times = np.stack([plan[name].to_numpy()[place] for name in ("start", "end")])
    cohorts = np.unique(times, axis=1, return_inverse=True)[1].ravel()
    rule = (cohorts, HALF * drift.rate, drift.effect)
    return judge(statistics, effects, *rule), effects, quiet_share(statistics, effects, *rule)


def _said(features: FeatureSet, champion: Champion, rows: pa.Table) -> dict[str, Any]:
    """What the record says of a look's rows."""
    judged = pc.greater(rows["judged_through"], NEVER)
    with_error = pc.is_valid(rows["e_value"])
    alarmed = rows.filter(rows["alarmed"])
    counted = int(pc.sum(pc.or_(judged, with_error)).as_py() or 0)
    states = {row["values"]: row["counts"] for row in pc.value_counts(rows["state"]).to_pylist()}
    error_states = {row["values"]: row["counts"] for row in pc.value_counts(rows["error_state"]).to_pylist()}
    evidence = alarmed.select(["segment", "trained", "since"]).to_pydict()
    return {
        "evidence": version_of(*(tuple(values) for values in evidence.values())),
        "segments": len(rows),
        "judged": counted,
        "judged_now": states.get(windows_of.JUDGED, 0),
        "drifted": len(alarmed),
        "new": int(pc.sum(rows["new"]).as_py() or 0),
        "share": len(alarmed) / counted if counted else 0.0,
        "states": states,
        "error_states": error_states,
        "why": {row["values"]: row["counts"] for row in pc.value_counts(alarmed["why"]).to_pylist()},
        "through": features.profile.times.last_label.isoformat(),
        "champion": champion.version,
        "features_version": features.version,
    }
