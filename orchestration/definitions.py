"""Everything Dagster loads: the fleet that FLEET_CONFIG names, or the one of `fleet.yaml` in the repository root."""

from __future__ import annotations

import warnings

from dagster import BetaWarning, Definitions, PreviewWarning, colored_console_logger, in_process_executor

from assets.champions.asset import champions_asset
from assets.champions.checks import champions_checks
from assets.drift.asset import drift_asset
from assets.drift.checks import drift_checks
from assets.evaluation.asset import evaluation_asset
from assets.evaluation.backtest_asset import backtest_asset
from assets.evaluation.checks import evaluation_checks
from assets.evaluation.live_asset import live_errors_asset
from assets.evaluation.live_checks import live_errors_checks
from assets.explanations.asset import explanations_asset
from assets.features.asset import features_asset
from assets.features.checks import features_checks, quarantine_checks
from assets.forecasts.asset import forecasts_asset
from assets.forecasts.checks import forecasts_checks
from assets.models.asset import models_asset
from assets.models.checks import models_checks
from assets.models.tuning.asset import tuning_asset
from assets.raw.asset import raw_asset
from assets.raw.checks import raw_checks
from assets.serving.asset import serving_asset
from assets.serving.checks import serving_checks
from orchestration.console import terminal_logger
from orchestration.event_log import enable_batching
from orchestration.jobs import (
    approve_job,
    backtest_job,
    check_job,
    ingest_job,
    requarantine_job,
    retrain_drifted_job,
    rollback_job,
    tuning_job,
    watch_serving_job,
    weekly_cycle_job,
)
from orchestration.schedules import weekly_schedule
from orchestration.sensors.all import fleet_sensors
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.notifier import Notifier
from resources.settings import Settings, config_path, read_settings
from resources.spark import Spark

ASSETS = (
    raw_asset, features_asset, models_asset, evaluation_asset, champions_asset, explanations_asset, serving_asset,
    tuning_asset,
)  # fmt: skip
CHECKS = (
    raw_checks, features_checks, quarantine_checks, models_checks, evaluation_checks, champions_checks, serving_checks,
)  # fmt: skip
OF_TIME = (live_errors_asset, drift_asset, forecasts_asset, backtest_asset)
CHECKS_OF_TIME = (live_errors_checks, drift_checks, forecasts_checks)
BY_HAND = (requarantine_job, approve_job, rollback_job, check_job, tuning_job)
BY_HAND_OF_TIME = (backtest_job,)


def fleet_definitions(settings: Settings) -> Definitions:
    """Assets, checks, jobs, schedule, sensors and resources of one fleet."""
    weekly_cycle, ingest, retrain = weekly_cycle_job(settings), ingest_job(settings), retrain_drifted_job(settings)
    watch = watch_serving_job(settings)
    # without time there is no future, and nothing that came since: rows are scored as they are brought
    assets, checks = ((*ASSETS, *OF_TIME), (*CHECKS, *CHECKS_OF_TIME)) if settings.time else (ASSETS, CHECKS)
    by_hand = (*BY_HAND, *BY_HAND_OF_TIME) if settings.time else BY_HAND
    return Definitions(
        assets=[build(settings) for build in assets],
        asset_checks=[check for build in checks for check in build(settings)],
        jobs=[weekly_cycle, ingest, retrain, watch, *(build(settings) for build in by_hand)],
        schedules=[weekly_schedule(settings, weekly_cycle)],
        sensors=fleet_sensors(settings, ingest, retrain, watch),
        resources={
            "lake": Lake(uri=settings.lake),
            "spark": Spark.of(settings),
            "notifier": Notifier.from_environment(),
            "mlflow": Mlflow(tracking_uri=settings.tracking_uri, experiment=settings.name),
        },
        executor=in_process_executor,
        loggers={"console": colored_console_logger, "terminal": terminal_logger},
    )


for warning in (BetaWarning, PreviewWarning):
    warnings.filterwarnings("ignore", category=warning)
enable_batching()
defs = fleet_definitions(read_settings(config_path()))
