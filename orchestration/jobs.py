"""The jobs of a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster import AssetKey, AssetSelection, define_asset_job, in_process_executor

from assets.features.publish import FEATURES, QUARANTINE
from assets.raw.snapshot import RAW
from resources.mlflow import mlflow_run_failed
from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

WEEKLY_CYCLE, INGEST, REQUARANTINE = "weekly_cycle", "ingest", "requarantine"


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


def ingest_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """What arrived, as a snapshot, and its features and quarantine; nothing is trained."""
    description = "Reads what is new in the source and builds features and quarantine of it, with their checks."
    return _of_assets(settings, INGEST, [RAW, FEATURES, QUARANTINE], description)


def requarantine_job(settings: Settings) -> UnresolvedAssetJobDefinition:
    """Today's rules over every row of the last snapshot: features and quarantine anew."""
    description = "Judges every row of the last snapshot by the contract as it is now; the source is not looked at."
    return _of_assets(settings, REQUARANTINE, [FEATURES, QUARANTINE], description)


def _of_assets(settings: Settings, name: str, assets: list[str], description: str) -> UnresolvedAssetJobDefinition:
    return define_asset_job(
        name,
        selection=AssetSelection.assets(*[AssetKey([settings.name, asset]) for asset in assets]),
        description=description,
        tags={"fleet": settings.name},
        executor_def=in_process_executor,
    )
