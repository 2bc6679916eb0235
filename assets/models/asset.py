"""`segment_models`: one LightGBM model a segment, trained by Spark workers; a segment is a partition."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    BackfillPolicy,
    Config,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    RetryPolicy,
    asset,
)
from pydantic import Field

from assets.features.publish import FEATURES, current_features, current_recipe
from assets.models.error_sums import SUMS
from assets.models.events import record_materializations
from assets.models.fit import parameter_problems
from assets.models.store import MODELS, Training, listing_of
from assets.models.train import CODE_VERSION, train_fleet
from assets.partitions import segments_partitions
from assets.presentation import (
    BLUE,
    column_schema,
    mistakes_explained,
    new_figure,
    plot,
    previous_metadata,
    table,
)
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import Spark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEGMENT_MODELS = "segment_models"
WORST = 10


class TrainingConfig(Config):
    """What a run of `segment_models` trains."""

    segments: list[str] | None = Field(
        None, description="Partition keys to train, any set of them; by default every segment that changed."
    )


def models_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/segment_models` of a fleet."""

    @asset(
        name=SEGMENT_MODELS,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, FEATURES])],
        partitions_def=segments_partitions(settings.partitions_name),
        backfill_policy=BackfillPolicy.single_run(),
        output_required=False,
        description="One LightGBM model a segment: a twin to be judged on the holdout, and a model to be served.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"lightgbm", "spark"},
        tags={"stage": "training"},
        code_version=CODE_VERSION,
        retry_policy=RetryPolicy(max_retries=1, delay=5),
    )
    def segment_models(
        context: AssetExecutionContext, config: TrainingConfig, lake: Lake, spark: Spark
    ) -> Iterator[MaterializeResult]:
        # a yielded result would mark every partition of a selected range, trained or not
        by_partition = context.has_partition_key or context.has_partition_key_range
        wanted = list(context.partition_keys) if by_partition else config.segments
        with mistakes_explained():
            if problems := parameter_problems(settings.model.model_dump()):
                raise InputError(problems)
            features, recipe = current_features(lake), current_recipe(lake, spark, settings)
            training, is_new = train_fleet(lake, spark, features, recipe, wanted, context.log.info)
        listing = listing_of(lake, training)
        if is_new or not _is_recorded(context, training):
            marked = record_materializations(context, listing, recipe.metric, training.id)
            context.log.info(f"segment_models: {marked:,} models, {_counted(training)}")
        else:
            context.log.info("segment_models: rows, recipe and code are those of the last training; nothing to train")
        if not by_partition:
            yield MaterializeResult(metadata=_metadata(lake, training, listing), data_version=DataVersion(training.id))

    return segment_models


def _is_recorded(context: AssetExecutionContext, training: Training) -> bool:
    """Whether this Dagster instance has the training's materializations already."""

    return previous_metadata(context, context.asset_key, training.id) is not None


def _counted(training: Training) -> str:
    counts, reasons = training.record["counts"], training.record["reasons"]
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    return f"{counts.get('skipped', 0):,} skipped, {counts.get('failed', 0):,} failed" + (
        f" ({left_out})" if left_out else ""
    )


def _metadata(lake: Lake, training: Training, listing: pa.Table) -> dict[str, Any]:
    frame = listing.to_pandas()
    counts = training.record["counts"]
    return {
        "training": training.id,
        "trained": counts.get("trained", 0),
        "skipped": counts.get("skipped", 0),
        "failed": counts.get("failed", 0),
        "segments": len(frame),
        "dagster/row_count": len(frame),
        "not trained, by reason": MetadataValue.json(training.record["reasons"]),
        "served by model": int(pc.sum(pc.equal(listing["chosen"], "segment")).as_py() or 0),
        "training seconds": round(float(frame["seconds"].sum()), 1),
        "recipe": MetadataValue.json(training.record["recipe"]),
        "dagster/column_schema": column_schema(listing.schema),
        "dagster/uri": MetadataValue.path(lake.table(MODELS).uri),
        "worst on the fold": table(_worst(frame)),
        "not trained": table(_not_trained(frame)),
        "model against baseline on the fold": plot(_fold_plot(frame)),
    }


def _worst(frame: pd.DataFrame) -> pd.DataFrame:
    judged = frame[frame["fold_count"] > 0].copy()
    scale = judged["fold_label_absolute"].where(judged["fold_label_absolute"] > 0)
    judged["model wape"] = judged[f"fold_model_{SUMS[0]}"] / scale
    judged["baseline wape"] = judged[f"fold_baseline_{SUMS[0]}"] / scale
    columns = ["segment", "model wape", "baseline wape", "chosen", "rows", "trees", "seconds"]
    return judged.sort_values("model wape", ascending=False)[columns].head(WORST)


def _not_trained(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["status"] != "trained"][["segment", "status", "reason", "rows"]].head(WORST)


def _fold_plot(frame: pd.DataFrame) -> "Figure":
    figure, axes = new_figure("Fold before the holdout: model's error as a share of the baseline's, by segment")
    judged = frame[(frame["fold_count"] > 0) & (frame["fold_baseline_absolute"] > 0)]
    ratio = (judged["fold_model_absolute"] / judged["fold_baseline_absolute"]).clip(upper=3)
    axes.hist(ratio, bins=40, color=BLUE)
    axes.axvline(1, color="black", lw=1)
    axes.set_xlabel("below 1: the model wins")
    return figure
