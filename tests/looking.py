"""A sensor of a small fleet that looks again and again, with the cursor it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dagster import (
    DagsterInstance,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    build_sensor_context,
)

from orchestration.definitions import fleet_definitions
from resources.notifier import Notifier
from resources.settings import Settings
from tests.cycle import minimal


@dataclass
class Looking:
    """The sensor `name`, on an instance, telling the receivers of `urls`."""

    name: str
    instance: DagsterInstance
    settings: Settings
    urls: str = ""
    resources: dict[str, Any] | None = None
    cursor: str | None = None
    made: SensorDefinition | None = None

    def look(self) -> RunRequest | SkipReason:
        """What the sensor finds."""
        if self.made is None:
            self.made = fleet_definitions(self.settings).resolve_sensor_def(self.name)
        needed = {"notifier": Notifier(urls=self.urls), **(self.resources or {})}
        with build_sensor_context(self.instance, cursor=self.cursor, resources=needed) as context:
            assert isinstance(context, SensorEvaluationContext)
            found = self.made(context)
            self.cursor = context.cursor
        assert isinstance(found, RunRequest | SkipReason)
        return found

    def said(self) -> str:
        """What the sensor says where it asks for nothing."""
        found = self.look()
        assert isinstance(found, SkipReason), found
        return found.skip_message or ""


def small_settings(**keys: Any) -> Settings:
    """Settings of a small fleet."""
    return Settings.model_validate({**minimal(), **keys})
