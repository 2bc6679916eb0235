"""When the weekly cycle runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster import DefaultScheduleStatus, ScheduleDefinition

from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


WEEKLY = "weekly"


def weekly_schedule(settings: Settings, job: UnresolvedAssetJobDefinition) -> ScheduleDefinition:
    """The schedule of fleet.yaml; it runs while a Dagster daemon is up, unless `schedule.enabled` is false."""
    enabled = settings.schedule.enabled
    return ScheduleDefinition(
        name=WEEKLY,
        job=job,
        cron_schedule=settings.schedule.cron,
        execution_timezone=settings.schedule.timezone,
        default_status=DefaultScheduleStatus.RUNNING if enabled else DefaultScheduleStatus.STOPPED,
        description="Retrains, judges, promotes and forecasts the fleet.",
    )
