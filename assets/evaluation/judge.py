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
from assets.evaluation.calibration import reliability
from assets.evaluation.compare import CALIBRATION, COMPARED, JUDGED, Against, JudgeTask, judge_bucket
from assets.evaluation.comparisons import comparison_facts, comparison_rows, keep_comparison
from assets.evaluation.conformal import calibrated, scores_a_block
from assets.evaluation.incumbent import Champion, Incumbent, answers, incumbent_for
from assets.evaluation.record import evaluation_record
from assets.evaluation.worth import worth_of_candidates
from assets.features.publish import ABSURD, SEGMENTS, USUAL, FeatureSet
from assets.features.rebuild import BucketFiles, committed_files, files_for
from assets.models.blend import served_by
from assets.models.line import SKIPPED
from assets.models.predictions import Candidate, ModelGroup
from assets.models.quantiles import QUANTILES
from assets.models.segment import CutOffs
from assets.models.store import (
    LISTING,
    TRAINING,
    Training,
    as_listing,
    listing_of,
    shared_listing,
    trainings,
)
from assets.raw.parse import KEY, PERIOD
from resources.files import write_parquet
from resources.frames import frame_of
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import Spark, quoted
from resources.spread import Say, spread

EVALUATION = "evaluation"
CODE_VERSION = code_version(
    "assets.evaluation.compare", "assets.evaluation.origins", "assets.evaluation.comparisons",
    "assets.evaluation.calibration", "assets.evaluation.conformal", "assets.evaluation.worth",
    "assets.models.predictions", "assets.models.blend", "assets.models.error_sums", "assets.models.baseline",
    "assets.models.intermittent", "assets.models.quantiles",
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
    mended = training.record.get("mended", 0)
    levels = settings.forecasts.quantiles
    digest = version_of(training.id, mended, features.digest, training.recipe.metric, *levels, CODE_VERSION)
    if last and last.digest == digest and still_holds(last, champion):
        return last, False
    challenger = challenger_listing(lake, features, training, champion)
    incumbent = incumbent_for(lake, features, training.recipe, champion)
    sums = _judge(lake, spark, settings, features, training, challenger, incumbent, say)
    quantiles, measured = calibrated(sums, levels, training.recipe)
    judged = sums.select(JUDGED.names).join(quantiles, "segment", join_type="inner")
    table = challenger.drop_columns(QUANTILES.names).join(judged, "segment", join_type="left outer").sort_by("segment")
    record = evaluation_record(digest, features, training, incumbent, table)
    record["quantiles"] = measured
    record["worth"] = worth_of_candidates(lake, training, sums)
    record["champion_version"] = champion.version if champion else None
    record["comparison"] = _compared(lake, digest, features, training, challenger, incumbent, sums)
    record[CALIBRATION] = reliability(sums[CALIBRATION])
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
    incumbent: Incumbent,
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


def still_holds(last: Evaluation, champion: Champion | None) -> bool:
    """Whether an evaluation met who serves now: nothing was promoted since, or just the fleet that was judged."""
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
        **served_by(training.unproven, len(absent)),
        TRAINING: pa.array([training.id] * len(absent), pa.string()),
    }
    blank = [rest.get(field.name, pa.nulls(len(absent), field.type)) for field in LISTING]
    return pa.concat_tables([listed, pa.Table.from_arrays(blank, schema=LISTING)])


def _judge(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    training: Training,
    challenger: pa.Table,
    incumbent: Incumbent,
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
            scores=scores_a_block(len(challenger)),
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
        rest = (unlisted.id, unlisted.unproven) if unlisted else None
        yield Candidate(lake.root, shared, tuple(groups), rest)


def fleet_mean(spark: Spark, files: BucketFiles, label: str, through: int) -> float:
    """Mean label of the whole fleet up to a period, without slips: the forecast where nothing is known of a segment."""
    frame = frame_of(spark.session(), [file for own in files.values() for file in own], columns=[PERIOD, label])
    known, size = frame.where(f"{PERIOD} <= {through}"), f"abs({quoted(label)})"
    usual = known.selectExpr(f"percentile_approx(nullif({size}, 0), {USUAL})").first()
    if usual and usual[0]:
        known = known.where(f"{size} <= {ABSURD * usual[0]!r}")
    row = known.selectExpr(f"avg({quoted(label)})").first()
    return float(row[0]) if row and row[0] is not None else 0.0
