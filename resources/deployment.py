"""Where a fleet runs: the sections `schedule`, `mlflow` and `dagster` of `fleet.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from resources.environment import REFERENCE
from resources.section import Section


def _cron(value: str) -> str:
    from dagster._utils.schedules import is_valid_cron_string

    if not is_valid_cron_string(value):
        raise ValueError(f"{value!r} is not a cron expression; write five fields such as '0 3 * * 1'")
    return value


def _timezone(value: str) -> str:
    from zoneinfo import available_timezones

    if value not in available_timezones():
        raise ValueError(f"{value!r} is not a time zone; write an IANA name such as Asia/Tokyo or UTC")
    return value


def _whole_reference(value: str) -> str:
    if not REFERENCE.fullmatch(value):
        raise ValueError("is written into a dagster.yaml, so it must be one reference such as ${DAGSTER_POSTGRES_URL}")
    return value


class Schedule(Section):
    """When the weekly cycle runs while `make ui` or a Dagster daemon is up."""

    cron: Annotated[str, AfterValidator(_cron)] = "0 3 * * 1"
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    enabled: bool = True


class Mlflow(Section):
    """Tracking server; by default SQLite and files beside the lake, or MLFLOW_TRACKING_URI.

    Its password is a reference: `tracking_uri: https://fleet:${MLFLOW_PASSWORD}@mlflow.example.com`.
    """

    tracking_uri: str | None = None


class Dagster(Section):
    """Where Dagster keeps runs, events and schedules: docs/targets.md.

    `home`: folder of the instance, in the place of DAGSTER_HOME; `storage`: the variable with Postgres' address, such
    as `${DAGSTER_POSTGRES_URL}` (left out: SQLite in `home`); `webserver`: the page that reloads after `fleet deploy`;
    `location`: the code location's name there.
    """

    home: Annotated[str, Field(min_length=1)] | None = None
    storage: Annotated[str, AfterValidator(_whole_reference)] | None = None
    webserver: Annotated[str, Field(pattern=r"^https?://[^\s/]")] | None = None
    location: str = "fleet"

    @model_validator(mode="after")
    def _storage_has_a_home(self) -> Dagster:
        if self.storage and not self.home:
            raise ValueError("storage is written into the dagster.yaml of a home, and there is no home")
        return self
