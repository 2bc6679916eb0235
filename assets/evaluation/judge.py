"""Judging a training: the challenger fleet against the incumbent and the baseline, per segment and in total."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.evaluation.compare import CANDIDATES, COMPARED, JUDGED, Against, JudgeTask, judge_bucket
from assets.evaluation.comparisons import clean_after, comparison_facts, comparison_rows, keep_comparison
from assets.evaluation.incumbent import Champion, answers, recipes_of
from assets.features.publish import SEGMENTS, FeatureSet
from assets.features.rebuild import BucketFiles, committed_files, files_for
from assets.models.error_sums import LOSSES, METRICS, metric_of, totals, undefined
from assets.models.line import FAILED, SKIPPED
from assets.models.predictions import Candidate, ModelGroup
from assets.models.segment import CutOffs
from assets.models.spread import Say, spread
from assets.models.store import (
    LISTING,
    TRAINING,
    UNKNOWN,
    Training,
    as_listing,
    listing_of,
    shared_listing,
    trainings,
)
from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe
from resources.files import write_parquet
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import Spark, quoted

EVALUATION = "evaluation"
CODE_VERSION = code_version(
    "assets.evaluation.compare", "assets.evaluation.origins", "assets.evaluation.comparisons",
    "assets.models.predictions", "assets.models.error_sums", "assets.models.baseline",
)  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """A committed evaluation; its table has a row a segment: the challenger's listing and everybody's error sums."""

    version: int
    record: dict[str, Any]
    table: str = EVALUATION

    @property
    def digest(self) -> str:
        """Data version: equal for equal candidates, rows and code."""
        return self.record["digest"]

    def rows(self, lake: Lake) -> pa.Table:
        """Its table."""
        return lake.table(self.table).arrow(version=self.version)


def latest_evaluation(lake: Lake, name: str = EVALUATION) -> Evaluation | None:
    """The evaluation committed last, of what `fleet.yaml` asks for or of what a table of another name holds."""
    table = lake.table(name)
    version = table.version()
    return None if version is None else Evaluation(version, table.record(), name)


def evaluate(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    training: Training,
    champion: Champion | None,
    say: Say | None = None,
    name: str = EVALUATION,
) -> tuple[Evaluation, bool]:
    """Commits the comparison of a training with the champion and the baseline; gives it and whether it is new.

    What `comparisons` keeps of it is committed first: an evaluation's gate finds it.
    """
    last = latest_evaluation(lake, name)
    digest = version_of(training.id, features.digest, training.recipe.metric, CODE_VERSION)
    if last and last.digest == digest and _still_holds(last, champion):
        return last, False
    challenger = challenger_listing(lake, features, training, champion)
    incumbent = _incumbent(lake, features, training.recipe, champion)
    sums = _judge(lake, spark, settings, features, training, challenger, incumbent, say)
    table = challenger.join(sums.select(JUDGED.names), "segment", join_type="left outer").sort_by("segment")
    record = _record(digest, features, training, incumbent, table)
    record["champion_version"] = champion.version if champion else None
    record["comparison"] = _compared(lake, digest, features, training, challenger, incumbent, sums)
    with lake.table(name).staging() as staging:
        write_parquet(table, f"{staging.uri}/evaluation.parquet")
        version = lake.table(name).commit(staging, table.schema, record)
    return Evaluation(version, record, name), True


def _compared(
    lake: Lake,
    digest: str,
    features: FeatureSet,
    training: Training,
    challenger: pa.Table,
    incumbent: _Incumbent,
    sums: pa.Table,
) -> dict[str, Any] | None:
    """Keeps what challenger and incumbent did on clean rows, and says what it is; None without an incumbent."""
    champion, last, known = incumbent.champion, features.profile.last_period, trainings(lake)
    if champion is None:
        return None
    facts = comparison_facts(digest, training, champion, known, incumbent.after, last)
    if facts is not None:
        rows = comparison_rows(facts, sums, challenger, champion, known)
        facts["rows"] = pc.sum(rows["rows"]).as_py() or 0
        keep_comparison(lake, facts, rows)
    return facts


def _still_holds(last: Evaluation, champion: Champion | None) -> bool:
    """Whether nothing was promoted since, or just the fleet that was judged."""
    version = champion.version if champion else None
    judged_itself = champion is not None and champion.tags.get("evaluation") == last.digest
    return last.record["champion_version"] == version or judged_itself


def challenger_listing(lake: Lake, features: FeatureSet, training: Training, champion: Champion | None) -> pa.Table:
    """A row (see `LISTING`) for every segment: as just trained, else as the champion has it, else without a model."""
    fresh = listing_of(lake, training)
    known = lake.table(SEGMENTS).arrow(columns=[KEY, "fleet_bucket"], version=features.record["segments_version"])
    parts = [fresh]
    if champion is not None and not training.covers_all and answers(lake, champion, training.recipe):
        older = as_listing(champion.listing)
        older = older.filter(pc.is_in(older["segment"], known[KEY].combine_chunks()))
        parts.append(older.filter(pc.invert(pc.is_in(older["segment"], fresh["segment"].combine_chunks()))))
    listed = pa.concat_tables(parts)
    absent = known.filter(pc.invert(pc.is_in(known[KEY], listed["segment"].combine_chunks())))
    rest = {
        "segment": absent[KEY],
        "bucket": absent["fleet_bucket"].cast(pa.int32()),
        "status": pa.array([SKIPPED] * len(absent)),
        "reason": pa.array(["not trained yet"] * len(absent), pa.string()),
        "chosen": pa.array([training.serves_unproven] * len(absent), pa.string()),
        TRAINING: pa.array([training.id] * len(absent), pa.string()),
    }
    blank = [rest.get(field.name, pa.nulls(len(absent), field.type)) for field in LISTING]
    return pa.concat_tables([listed, pa.Table.from_arrays(blank, schema=LISTING)])


@dataclass(frozen=True)
class _Incumbent:
    """The fleet that serves, if it can be compared at all: on the whole holdout, or why not, and on rows `after`."""

    champion: Champion | None
    why_not: str | None = None
    selected_through: int | None = None
    after: int = 0

    @property
    def on_holdout(self) -> Champion | None:
        """The fleet, where no row of the holdout trained its twins."""
        return None if self.why_not else self.champion


def _incumbent(lake: Lake, features: FeatureSet, recipe: Recipe, champion: Champion | None) -> _Incumbent:
    """The incumbent, and which rows are clean for it: those after all that its models or its promotion were chosen by.

    Rows without time have no order, so that none is known to be later: they are compared on the holdout itself.
    """
    if champion is None:
        return _Incumbent(None, "no fleet served before")
    if not answers(lake, champion, recipe):
        return _Incumbent(
            None, "it answers another question: segment, time, label, frequency or the rows held out changed"
        )
    if any(theirs.horizon < recipe.horizon for theirs in recipes_of(lake, champion)):
        return _Incumbent(None, "it forecasts fewer periods ahead, from labels that are not known yet at this horizon")
    holdout_from = features.profile.last_period - recipe.holdout
    cut_offs = [pc.max(champion.listing[name]).as_py() for name in ("judged_through", "selected_through")]
    trained = max((cut_off for cut_off in cut_offs if cut_off is not None), default=holdout_from)
    seen = trained > holdout_from
    why_not = "its twins were trained or selected on rows of this holdout" if seen else None
    selected = clean_after(champion, trainings(lake)) if recipe.time else trained
    after = max(holdout_from, trained, holdout_from if selected is None else selected)
    return _Incumbent(champion, why_not, selected, after)


def _judge(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    training: Training,
    challenger: pa.Table,
    incumbent: _Incumbent,
    say: Say | None,
) -> pa.Table:
    recipe, files, champion = training.recipe, committed_files(lake, features), incumbent.champion
    cut_offs = CutOffs.of(recipe, features.profile.last_period)
    with ExitStack() as stack:
        work = partial(
            judge_bucket,
            recipe=recipe,
            cut_offs=cut_offs,
            otherwise=fleet_mean(spark, files, recipe.label, cut_offs.holdout),
            challenger=stack.enter_context(candidate(lake, spark, settings, features, challenger)),
            incumbent=Against(
                stack.enter_context(candidate(lake, spark, settings, features, champion.listing)),
                incumbent.on_holdout is not None,
                incumbent.after,
            )
            if champion
            else None,
        )
        tasks = [JudgeTask(bucket, own) for bucket, own in files.items()]
        return spread(spark, tasks, work, COMPARED, short=True, what="judged", total=len(challenger), say=say)


@contextmanager
def candidate(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    listing: pa.Table,
    unlisted: Training | None = None,
) -> Iterator[Candidate]:
    """A listing as workers use it, while the `with` block is open; `unlisted` serves segments it does not know.

    A training whose columns the table no longer has, or that answers another question, is left out: its segments fall
    back to the baseline.
    """
    question = features.recipe.problem_digest
    known = {key: past for key, past in trainings(lake).items() if past.recipe.problem_digest == question}
    used = {*listing[TRAINING].unique().to_pylist(), *([unlisted.id] if unlisted else [])}
    with ExitStack() as stack:
        groups = []
        for identity in sorted(key for key in used if key in known):
            recipe = known[identity].recipe
            try:
                files: BucketFiles = stack.enter_context(files_for(lake, spark, settings, features, recipe))
            except InputError:
                continue
            groups.append(ModelGroup(identity, recipe, files, known[identity].fleet_file))
        shared = stack.enter_context(shared_listing(lake, listing))
        rest = (unlisted.id, unlisted.serves_unproven) if unlisted else None
        yield Candidate(lake.root, shared, tuple(groups), rest)


def fleet_mean(spark: Spark, files: BucketFiles, label: str, through: int) -> float:
    """Mean label of the whole fleet up to a period: the forecast where nothing is known of a segment."""
    frame = spark.session().read.parquet(*[file for own in files.values() for file in own])
    row = frame.where(f"{PERIOD} <= {through}").selectExpr(f"avg({quoted(label)})").first()
    return float(row[0]) if row and row[0] is not None else 0.0


def _record(
    digest: str,
    features: FeatureSet,
    training: Training,
    against: _Incumbent,
    table: pa.Table,
) -> dict[str, Any]:
    recipe, profile, incumbent = training.recipe, features.profile, against.on_holdout
    held_out = profile.timeline.last(recipe.holdout) if profile.timeline else None
    summed = totals(table)
    errors = {candidate: metric_of(recipe.metric, summed, candidate) for candidate in CANDIDATES}
    return {
        "digest": digest,
        "training": training.id,
        "metric": recipe.metric,
        "errors": errors,
        "bias": {c: metric_of("bias", summed, c) for c in errors},
        "metrics": {name: {c: metric_of(name, summed, c) for c in errors} for name in METRICS},
        "rows": summed["count"],
        "failed": pc.sum(pc.equal(table["status"], FAILED)).as_py() or 0,
        "segments": len(table),
        "undefined": pc.sum(undefined(table)).as_py() or 0,
        "worse_than_baseline": _worse_than_baseline(recipe.metric, table),
        "compared": _comparable_sums(recipe.metric, summed, bool(incumbent)),
        "incumbent_version": incumbent.version if incumbent else None,
        "incumbent_left_out": against.why_not,
        "holdout": {
            "start": held_out[0].isoformat() if held_out is not None else None,
            "end": held_out[-1].isoformat() if held_out is not None else None,
        },
        "last_label": profile.timeline.last_label.isoformat() if profile.timeline else None,
        "holdout_from": profile.last_period - recipe.holdout,
        "trained_through": training.record["trained_through"],
        "judged_through": _latest(table, "judged_through"),
        "selected_through": _latest(table, "selected_through"),
        "incumbent_judged_through": _latest(against.champion.listing, "judged_through") if against.champion else None,
        "incumbent_selected_through": against.selected_through,
        "cut_offs": _cut_offs(table, against),
        "features_version": features.version,
        "features_digest": features.digest,
        "raw_digest": features.record["raw_digest"],
        "recipe_digest": recipe.digest,
        "configuration_digest": training.record.get("configuration_digest", UNKNOWN),
    }


def _comparable_sums(metric: str, summed: dict[str, float | None], has_incumbent: bool) -> dict[str, float | None]:
    """Sums that rank candidates on the same rows as the metric does, and exist where the metric does not."""
    kind = LOSSES[metric]
    candidates = ["challenger", "served", "fleet", "baseline", *(["incumbent"] if has_incumbent else [])]
    return {candidate: summed[f"{candidate}_{kind}"] for candidate in candidates}


def _worse_than_baseline(metric: str, table: pa.Table) -> dict[str, int]:
    """How many of the segments with rows in the holdout would be served worse than by the baseline."""
    served, baseline = (table[f"{name}_{LOSSES[metric]}"] for name in ("served", "baseline"))
    known = pc.and_(pc.is_finite(served), pc.is_finite(baseline))
    judged = pc.and_(known, pc.greater(table["count"], 0))
    worse = pc.and_(judged, pc.greater(served, baseline))
    return {"segments": pc.sum(worse).as_py() or 0, "of": pc.sum(judged).as_py() or 0}


def _cut_offs(table: pa.Table, against: _Incumbent) -> dict[str, dict[str, int | None]]:
    """Of each candidate the last period that its judged models were trained on, and that it was chosen by."""
    own = {"trained_through": _latest(table, "judged_through"), "selected_through": _latest(table, "selected_through")}
    found: dict[str, dict[str, int | None]] = {name: dict(own) for name in ("challenger", "served", "fleet")}
    found["baseline"] = {"trained_through": own["selected_through"], "selected_through": None}
    if against.champion is not None:
        trained = _latest(against.champion.listing, "judged_through")
        found["incumbent"] = {"trained_through": trained, "selected_through": against.selected_through}
    return found


def _latest(table: pa.Table, column: str) -> int | None:
    return pc.max(table[column]).as_py()
