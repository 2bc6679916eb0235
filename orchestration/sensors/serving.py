"""The sensor that has a look taken at the REST service, where its servers logged something since the last one."""

from typing import TYPE_CHECKING

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from assets.serving.log import has_news
from orchestration.jobs import WATCH_SERVING
from orchestration.sensors.intervals import SECONDS_BETWEEN_LOOKS
from resources.lake import Lake
from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

LOOKS_AN_HOUR = 60


def serving_sensor(settings: Settings, job: "UnresolvedAssetJobDefinition") -> SensorDefinition:
    """Asks for a run of `job` once an hour at most, while the REST service is used; it trains nothing."""

    @sensor(
        name="serving",
        job=job,
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS * LOOKS_AN_HOUR,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def serving(context: SensorEvaluationContext, lake: Lake) -> RunRequest | SkipReason:
        """Has a look taken at what the REST service answered."""
        if not has_news(lake):
            return SkipReason("nothing was served since the last look, or no server logs to this lake")
        ours = RunsFilter(job_name=WATCH_SERVING, tags={"fleet": settings.name}, statuses=list(NOT_FINISHED_STATUSES))
        if context.instance.get_runs(ours, limit=1):
            return SkipReason("a look is under way")
        return RunRequest(tags={"fleet": settings.name})

    return serving
