"""The jobs of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster import AssetSelection, define_asset_job, in_process_executor

from resources.mlflow import mlflow_run_failed
from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

WEEKLY_CYCLE = "weekly_cycle"


def weekly_cycle_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """The whole cycle in one run: raw, features, models, evaluation, champions, forecasts, and every check."""
    return define_asset_job(
        WEEKLY_CYCLE,
        selection=AssetSelection.groups(settings.name),
        description=(
            "Retrains what changed, judges it, promotes it if it is not worse, forecasts. In the UI: the arrow beside "
            "'Materialize all', 'Open launchpad', 'Materialize', without a partition."
        ),
        tags={"fleet": settings.name},
        # one process, so that one Spark session serves all steps
        executor_def=in_process_executor,
        hooks={mlflow_run_failed},
    )
