"""`segment_models`: one LightGBM model a segment, trained by Spark workers; a segment is a partition."""

from collections.abc import Iterator
from typing import Any

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
from assets.models.events import record_materializations
from assets.models.fit import parameter_problems
from assets.models.run_record import (
    fold_plot,
    not_trained,
    rate_plot,
    slowest_segments,
    work_by_worker,
    worst_on_fold,
)
from assets.models.selection import selected, selection_facts
from assets.models.store import MODELS, Training, listing_of
from assets.models.train import CODE_VERSION, train_fleet
from assets.models.tuning.asset import search_metadata
from assets.models.tuning.fleet_search import is_due, search
from assets.models.tuning.summary import log_search, parameters_in_use, search_said
from assets.partitions import segments_partitions
from assets.presentation import (
    DATA_VERSION_TAG,
    column_schema,
    mistakes_explained,
    plot,
    table,
)
from assets.raw.recipe import Recipe
from assets.raw.tuned import configuration_digest
from resources.computing import CPU
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import Spark

SEGMENT_MODELS = "segment_models"
GPU_POOL = "fleet_gpu"  # of all fleets: two trainings would fight for the same GPUs (see dagster.yaml)


class TrainingConfig(Config):
    """What a run of `segment_models` trains."""

    segments: list[str] | None = Field(
        None, description="Partition keys to train, any set of them; by default every segment that changed."
    )
    selection: int | None = Field(
        None,
        description="In place of `segments`: the number of a set of them in the lake, as the drift sensor keeps it.",
    )
    force: bool = Field(False, description="Train also what has a model of the same rows, parameters and code.")
    search: bool = Field(False, description="Search parameters for the fleet first, as on the first run.")


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
        pool=None if settings.gpu.device == CPU else GPU_POOL,
    )
    def segment_models(
        context: AssetExecutionContext, config: TrainingConfig, lake: Lake, spark: Spark, mlflow: Mlflow
    ) -> Iterator[MaterializeResult]:
        # a yielded result would mark every partition of a selected range, trained or not
        by_partition = context.has_partition_key or context.has_partition_key_range
        selection = None if by_partition else config.selection
        with mistakes_explained():
            listed = config.segments if selection is None else selected(lake, selection)
            wanted = list(context.partition_keys) if by_partition else listed
            if problems := parameter_problems(settings.model.model_dump()):
                raise InputError(problems)
            if page := spark.ui_address():
                context.log.info(f"segment_models: Spark's page is {page}")
            features, recipe = current_features(lake), current_recipe(lake, spark, settings)
            found: dict[str, Any] = {}
            if (config.search and settings.tuning.enabled) or (
                wanted is None and is_due(lake, features, recipe, settings)
            ):
                found, recipe = _searched(context, lake, spark, settings, mlflow)
            training, is_new = train_fleet(
                lake,
                spark,
                features,
                recipe,
                wanted,
                context.log.info,
                anew=config.force,
                failures=settings.failures,
                gpu=settings.gpu,
                configuration=configuration_digest(settings, recipe),
                selection=None if selection is None else selection_facts(lake, selection),
            )
        listing = listing_of(lake, training)
        if is_new or not _is_recorded(context, training):
            asked = wanted is not None or context.instance.get_latest_materialization_event(context.asset_key) is None
            new = listing if asked else listing.filter(pc.invert(pc.fill_null(listing["reused"], False)))
            marked = record_materializations(context, new, recipe.metric, training.id)
            context.log.info(f"segment_models: {marked:,} models, {_counted(training)}")
        else:
            context.log.info("segment_models: rows, recipe and code are those of the last training; nothing to train")
        if not by_partition:
            page = spark.ui_address()
            link = {"Spark's page": MetadataValue.url(page)} if page else {}
            used = {"parameters": parameters_in_use(lake, features, recipe, settings)}
            metadata = {**_metadata(lake, training, listing), **used, **link, **found}
            yield MaterializeResult(metadata=metadata, data_version=DataVersion(training.id))

    return segment_models


def _searched(
    context: AssetExecutionContext, lake: Lake, spark: Spark, settings: Settings, mlflow: Mlflow
) -> tuple[dict[str, Any], Recipe]:
    """Metadata of a search for the fleet, and the recipe with what it chose."""
    features, recipe = current_features(lake), current_recipe(lake, spark, settings)
    record = search(lake, spark, features, recipe, settings, context.log.info)
    log_search(mlflow, record)
    context.log.info(f"segment_models: {search_said(record)}")
    seen = {f"search: {name}": value for name, value in search_metadata(record).items() if name != "search"}
    return {"search": search_said(record), **seen}, current_recipe(lake, spark, settings)


def _is_recorded(context: AssetExecutionContext, training: Training) -> bool:
    """Whether this Dagster instance has the training's materializations already: the last is the fleet's own."""
    event = context.instance.get_latest_materialization_event(context.asset_key)
    last = event.asset_materialization if event else None
    return last is not None and last.partition is None and (last.tags or {}).get(DATA_VERSION_TAG) == training.id


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
        "trained anew": training.record["fitted"],
        "fits": training.record["fits"],
        "rows of models": training.record["rows"],
        "bytes of models": training.record["bytes"],
        "chosen on the fold": MetadataValue.json(frame["chosen"].value_counts().to_dict()),
        "fleet-wide model": MetadataValue.json(training.record["fleet_model"]),
        "fitted on": MetadataValue.json(frame["device"].value_counts().to_dict()),
        "seconds, by phase": MetadataValue.json(training.record["seconds"]),
        "seconds, all workers together": round(float(frame["seconds"].sum()), 1),
        "recipe": MetadataValue.json(training.record["recipe"]),
        "dagster/column_schema": column_schema(listing.schema),
        "dagster/uri": MetadataValue.path(lake.table(MODELS).uri),
        "worst on the fold": table(worst_on_fold(frame)),
        "not trained": table(not_trained(frame)),
        "slowest": table(slowest_segments(frame)),
        "by worker": table(work_by_worker(frame)),
        "model against baseline on the fold": plot(fold_plot(frame)),
        "models a second": plot(rate_plot(frame)),
    }
