"""All sensors of a fleet, and which of them look without being switched on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dagster import DefaultSensorStatus, SensorDefinition

from orchestration.sensors.drift import drift_sensor
from orchestration.sensors.failures import failures_sensor
from orchestration.sensors.landing import landing_sensor
from orchestration.sensors.late import late_schedule_sensor
from orchestration.sensors.serving import serving_sensor
from orchestration.sensors.stale import stale_champions_sensor
from resources.notifier import NOTIFY_VARIABLE
from resources.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

ON, OFF = DefaultSensorStatus.RUNNING, DefaultSensorStatus.STOPPED


def fleet_sensors(
    settings: Settings,
    ingest: UnresolvedAssetJobDefinition,
    retrain: UnresolvedAssetJobDefinition,
    watch: UnresolvedAssetJobDefinition,
) -> list[SensorDefinition]:
    """The sensors: those that tell are on where FLEET_NOTIFY is set, those that start runs as `fleet.yaml` says."""
    telling = ON if os.environ.get(NOTIFY_VARIABLE) else OFF
    # without time nothing came later than anything else
    of_time = [drift_sensor(settings, retrain, ON if settings.drift.retrain else OFF)] if settings.time else []
    return [
        landing_sensor(settings, ingest),
        *of_time,
        serving_sensor(settings, watch),
        failures_sensor(settings, telling),
        stale_champions_sensor(settings, telling),
        late_schedule_sensor(settings, telling if settings.schedule.enabled else OFF),
    ]
