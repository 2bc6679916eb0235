"""`evaluation`: challenger, incumbent and baseline on the same holdout, per segment and in total."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from assets.evaluation.calibration import calibration_error
from assets.evaluation.calibration_summary import calibration_plot, calibration_table
from assets.evaluation.compare import CALIBRATION
from assets.evaluation.incumbent import whole_champion
from assets.evaluation.interval_summary import coverage_plot, interval_table, quantile_table
from assets.evaluation.judge import CODE_VERSION, EVALUATION, Evaluation, evaluate
from assets.evaluation.report import (
    error_table,
    holdout_said,
    scatter_plot,
    segment_errors,
    totals_plot,
    worst_segments,
    write_report,
)
from assets.features.publish import current_features
from assets.models.asset import SEGMENT_MODELS
from assets.models.quantiles import quantile_name
from assets.models.store import Training, latest_training
from assets.presentation import column_schema, mistakes_explained, plot, png, previous_metadata, table
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings
from resources.spark import Spark

MLFLOW_RUN_TAG = "mlflow/run_id"


def evaluation_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/evaluation` of a fleet."""

    @asset(
        name=EVALUATION,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, SEGMENT_MODELS])],
        description="Challenger, incumbent and baseline on the fleet's last periods, which no judged model has seen.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"spark", "mlflow"},
        tags={"stage": "evaluation"},
        code_version=CODE_VERSION,
    )
    def evaluation(context: AssetExecutionContext, lake: Lake, spark: Spark, mlflow: Mlflow) -> MaterializeResult:
        with mistakes_explained():
            features, training = current_features(lake), latest_training(lake)
            assert training is not None, "segment_models comes first"
            champion = whole_champion(lake, mlflow)
            judged, is_new = evaluate(lake, spark, settings, features, training, champion, context.log.info)
        errors = {name: error for name, error in judged.record["errors"].items() if error is not None}
        shown = ", ".join(f"{name} {error:.4f}" for name, error in errors.items())
        context.log.info(f"evaluation: {judged.record['metric']} {shown}" + ("" if is_new else ", unchanged"))
        rows = lake.table(EVALUATION).arrow(version=judged.version)
        version = f"{judged.digest}-{judged.record['champion_version'] or 0}"
        seen = None if is_new else previous_metadata(context, context.asset_key, version)
        if seen is None:
            seen = _metadata(context, lake, mlflow, settings, training, judged, rows)
        return MaterializeResult(metadata=seen, data_version=DataVersion(version))

    return evaluation


def _metadata(
    context: AssetExecutionContext,
    lake: Lake,
    mlflow: Mlflow,
    settings: Settings,
    training: Training,
    judged: Evaluation,
    rows: pa.Table,
) -> dict[str, Any]:
    record, errors = judged.record, segment_errors(rows)
    figures = {"total error": totals_plot(record), "error by segment": scatter_plot(errors)}
    intervals: dict[str, Any] = {}
    if record.get("quantiles"):
        intervals = {"quantiles": table(quantile_table(record)), "intervals": table(interval_table(record))}
        if record["quantiles"]["intervals"]:
            figures["coverage of intervals"] = coverage_plot(record)
    bins = record.get(CALIBRATION)
    if bins:
        figures[CALIBRATION] = calibration_plot(bins)
    drawn = [png(figure) for figure in figures.values()]
    report = write_report(lake, settings.name, record, rows, context.run_id, drawn)
    _log_to_mlflow(context, mlflow, training, record, rows, lake)
    numbers = {f"{record['metric']} of {name}": error for name, error in record["errors"].items() if error is not None}
    return {
        **numbers,
        "holdout": holdout_said(record),
        "dagster/row_count": len(rows),
        "segments": len(rows),
        "segments judged": len(errors),
        "candidates": table(error_table(record)),
        **intervals,
        "worst segments": table(worst_segments(errors)),
        **_calibration(bins),
        **{title: plot(figure) for title, figure in figures.items()},
        "report": MetadataValue.path(report),
        "mlflow run": mlflow.run_url(),
        "cut-offs": MetadataValue.json(
            {k: v for k, v in record.items() if k.endswith("through") or k in ("holdout_from", "cut_offs")}
        ),
        "dagster/column_schema": column_schema(rows.schema),
        "dagster/uri": MetadataValue.path(lake.table(EVALUATION).uri),
    }


def _calibration(bins: list[dict[str, float]] | None) -> dict[str, Any]:
    """Of labels 0 and 1 how probable a 1 was said to be, and how often it came."""
    if not bins:
        return {}
    return {"calibration error": calibration_error(bins), "calibration, by bin": table(calibration_table(bins))}


def _log_to_mlflow(
    context: AssetExecutionContext,
    mlflow: Mlflow,
    training: Training,
    record: dict[str, Any],
    rows: pa.Table,
    lake: Lake,
) -> None:
    import pyarrow.parquet as pq

    run = mlflow.run()
    recipe = training.recipe.model_dump(exclude={"categories", "kinds", "model"})
    run.log_params({name: str(value)[:6000] for name, value in {**recipe, **training.recipe.model}.items()})
    counts = {f"segments_{status}": count for status, count in training.record["counts"].items()}
    metrics = {f"{record['metric']}_{name}": error for name, error in record["errors"].items()}
    if record.get("quantiles"):
        measured = zip(record["quantiles"]["levels"], record["quantiles"]["measured"], strict=True)
        metrics |= {f"below_{quantile_name(level)}": share for level, share in measured}
    run.log_metrics({name: float(value) for name, value in {**counts, **metrics}.items() if value is not None})
    run.set_tags({"fleet": mlflow.experiment, "dagster_run_id": context.run_id, "training": training.id})
    with tempfile.TemporaryDirectory() as folder:
        segments = Path(folder) / "segments.parquet"
        pq.write_table(rows, segments)
        run.log_artifact(str(segments))
        page = Path(folder) / "evaluation.html"
        page.write_bytes(lake.read_file("reports/evaluation.html") or b"")
        run.log_artifact(str(page))
    context.instance.add_run_tags(context.run_id, {MLFLOW_RUN_TAG: run.active_run().info.run_id})
