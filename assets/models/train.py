"""Training of a fleet: Spark workers fit the segments of each bucket and write their models to the lake."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.features.publish import FeatureSet
from assets.features.rebuild import committed_files
from assets.models.choice import unproven_weights, with_choice
from assets.models.device import placement_of
from assets.models.fleet_model import FACTS, fleet_facts, fleet_file, train_fleet_model
from assets.models.labels import refuse_impossible_labels
from assets.models.line import LINE, TRAINED
from assets.models.segment import CutOffs
from assets.models.store import (
    BESIDE,
    MODELS,
    SELECTION,
    TRAINING,
    UNKNOWN,
    UNPROVEN,
    Training,
    latest_training,
    listing_of,
    trainings,
    write_lines,
)
from assets.models.tasks import fleet_task, training_tasks
from assets.models.wholeness import missing_files, set_aside_corrupt
from assets.models.worker import Plan, train_bucket
from assets.raw.recipe import Recipe
from assets.raw.tuned import untuned
from resources.computing import Gpu
from resources.judging import Failures
from resources.lake import Lake
from resources.spark import Spark
from resources.spread import Say, spread

CODE_VERSION = code_version(
    "assets.models.fit", "assets.models.segment", "assets.models.bucket", "assets.models.baseline",
    "assets.models.intermittent",
    "assets.models.fleet_model", "assets.models.folds", "assets.models.choice", "assets.models.blend",
    "assets.models.packing",
)  # fmt: skip


def train_fleet(
    lake: Lake,
    spark: Spark,
    features: FeatureSet,
    recipe: Recipe,
    segments: Sequence[str] | None = None,
    say: Say | None = None,
    *,
    anew: bool = False,
    failures: Failures | None = None,
    gpu: Gpu | None = None,
    configuration: str = UNKNOWN,
    beside: bool = False,
    selection: dict[str, Any] | None = None,
) -> tuple[Training, bool]:
    """Trains the named segments (all by default) and commits what came of each; gives the training and if it is new.

    `configuration` is the digest of the settings in force, for the record. A training `beside` them (see `BESIDE`) does
    not become the latest. `selection` says of which set kept in the lake the named segments are, for the record too.

    A training of all segments that was committed before for the same rows, recipe and code is not repeated, unless
    models of it were lost: these are fitted again, and it is committed anew (`mended`). No segment is fitted again
    whose rows, parameters and code are those of a model in the lake, unless `anew`.

    Raises:
        InputError: a named segment does not exist; or there is no GPU, or nothing that says what to fit on it (`gpu`).
    """
    digest = version_of(features.digest, recipe.digest, CODE_VERSION)
    placement = placement_of(lake, spark, gpu or Gpu())
    known = _known_training(lake, digest) if segments is None and not anew else None
    if known and _is_whole(lake, known, say):
        if not beside:
            _make_latest(lake, known)
        return known, False
    refuse_impossible_labels(spark, chain.from_iterable(committed_files(lake, features).values()), recipe)
    tasks, clock = training_tasks(lake, features, segments, spark.threads(), placement), _Clock()
    fleet = _fleet_model(lake, spark, features, recipe, say) if recipe.fleet_rows else None
    clock.tick("fleet-wide model")
    plan = _plan(lake, features, recipe, fleet, failures or Failures(), anew)
    total = features.record["segments"] if segments is None else len(segments)
    lines = spread(
        spark,
        [task for task in tasks if not task.device],
        partial(train_bucket, plan=plan),
        LINE,
        what="trained",
        total=total,
        say=say,
        on_gpu=[task for task in tasks if task.device],
        per_task=placement.per_task if placement else 1.0,
    )
    clock.tick("segments")
    lines = _settled(lake, lines, recipe)
    identity = digest if segments is None and not anew else f"{digest}-{uuid.uuid4().hex[:8]}"
    # a set that is kept in the lake is named there, not in every reading of the history
    named = [] if segments is not None and selection is not None else segments
    record = {
        **_record(identity, digest, features, recipe, named, lines),
        "fleet_model": fleet,
        UNPROVEN: unproven_weights(lines, recipe.blend, recipe.horizons_held_out),
        "configuration_digest": configuration,
        "mended": (known.record.get("mended", 0) + 1) if known else 0,
        BESIDE: beside,
        SELECTION: selection,
        "seconds": clock.seconds,
    }
    _commit(lake, identity, record, lines, instead=known)
    return Training(identity, record), True


class _Clock:
    """How long each phase took, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def tick(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self._last = round(now - self._last, 3), now


def _known_training(lake: Lake, digest: str) -> Training | None:
    return next((t for t in trainings(lake).values() if t.covers_all and t.record["digest"] == digest), None)


def _is_whole(lake: Lake, known: Training, say: Say | None) -> bool:
    listing, mine = listing_of(lake, known), {known.id: known}
    corrupt = set_aside_corrupt(lake, listing, mine)
    lost = missing_files(lake, listing, mine)
    if lost and say:
        say(f"{len(lost):,} files of models are lost or corrupt, such as {lost[0]}: what lay in them is fitted again")
    return not lost and not corrupt


def _make_latest(lake: Lake, known: Training) -> None:
    """Names a training again after another recipe's, so that what is judged next is today's."""
    table, latest = lake.table(MODELS), latest_training(lake)
    if latest is None or latest.record["digest"] == known.record["digest"]:
        return
    with table.staging() as staging:
        table.commit(
            staging, table.schema(), {**known.record, BESIDE: False}, mode="append", partition_by=[TRAINING], files=[]
        )


def _plan(
    lake: Lake, features: FeatureSet, recipe: Recipe, fleet: dict[str, Any] | None, failures: Failures, anew: bool
) -> Plan:
    import lightgbm

    part = recipe.model_dump(include={"model", "minimum_history"})
    return Plan(
        lake=lake.root,
        recipe=recipe,
        cut_offs=CutOffs.of(recipe, features.profile.last_period),
        shared=version_of(CODE_VERSION, lightgbm.__version__, part, recipe.features, recipe.text_features),
        fleet_file=fleet["file"] if fleet else None,
        time_limit=failures.time_limit,
        retries=failures.retries,
        anew=anew,
    )


def _fleet_model(lake: Lake, spark: Spark, features: FeatureSet, recipe: Recipe, say: Say | None) -> dict[str, Any]:
    """The fleet-wide model for these rows, recipe and code: where it lies, its rows, the seconds its fits took."""
    # what was chosen for models of single segments is nothing to it
    digest = version_of(features.digest, untuned(recipe).digest, CODE_VERSION)
    file = fleet_file(digest)
    if known := fleet_facts(lake.root, file):
        return {"file": file, **known}
    if say:
        say(f"training the fleet-wide model on at most {recipe.fleet_rows:,} rows")
    task, cut_offs = fleet_task(lake, features, recipe, digest), CutOffs.of(recipe, features.profile.last_period)
    work = partial(train_fleet_model, recipe=recipe, cut_offs=cut_offs, threads=spark.threads())
    return {"file": file, **spread(spark, [task], work, FACTS).to_pylist()[0]}


def _settled(lake: Lake, lines: pa.Table, recipe: Recipe) -> pa.Table:
    """Lines by bucket and segment, with who serves, and which models an earlier training had committed."""
    table = lake.table(MODELS)
    committed = _models_of(table.arrow(columns=["segment", "shard"])) if table.exists() else pa.array([], pa.string())
    reused = pc.and_(pc.is_valid(lines["shard"]), pc.is_in(_models_of(lines), pc.unique(committed)))
    lines = lines.set_column(LINE.get_field_index("reused"), LINE.field("reused"), reused)
    return with_choice(lines, recipe.blend, recipe.horizons_held_out).sort_by(
        [("bucket", "ascending"), ("segment", "ascending")]
    )


def _models_of(lines: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(lines["shard"], lines["segment"], "/")


def _record(
    identity: str,
    digest: str,
    features: FeatureSet,
    recipe: Recipe,
    segments: Sequence[str] | None,
    lines: pa.Table,
) -> dict[str, Any]:
    statuses = {row["values"]: row["counts"] for row in pc.value_counts(lines["status"]).to_pylist()}
    failed = lines.filter(pc.not_equal(lines["status"], TRAINED))
    reasons = {row["values"]: row["counts"] for row in pc.value_counts(failed["reason"]).to_pylist()}
    fitted = lines.filter(pc.and_(pc.equal(lines["status"], TRAINED), pc.invert(lines["reused"])))
    return {
        "training": identity,
        "digest": digest,
        "recipe": recipe.model_dump(),
        "recipe_digest": recipe.digest,
        "code_version": CODE_VERSION,
        "features_version": features.version,
        "features_digest": features.digest,
        "features_code_version": features.record.get("code_version", UNKNOWN),
        "raw_version": features.record["raw_version"],
        "raw_digest": features.record["raw_digest"],
        "last_label": features.profile.timeline.last_label.isoformat() if features.profile.timeline else None,
        "segments": sorted(segments) if segments is not None else None,
        "trained_through": features.profile.last_period,
        "counts": statuses,
        "reasons": reasons,
        "fitted": len(fitted),
        "fits": pc.sum(fitted["fits"]).as_py() or 0,
        "rows": pc.sum(fitted["rows"]).as_py() or 0,
        "bytes": pc.sum(fitted["bytes"]).as_py() or 0,
    }


def _commit(
    lake: Lake, identity: str, record: dict[str, Any], lines: pa.Table, instead: Training | None = None
) -> None:
    table, replacing = lake.table(MODELS), [identity] if instead else None
    with table.staging() as staging:
        write_lines(staging, identity, lines)
        schema = LINE.append(pa.field(TRAINING, pa.string()))
        table.commit(staging, schema, record, mode="append", partition_by=[TRAINING], replacing=replacing)
