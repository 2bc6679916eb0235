"""The JSON schema of `fleet.yaml`, by which an editor completes keys and marks mistakes."""

from __future__ import annotations

import json
from typing import Any

from resources.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"  # the one that pydantic writes


def settings_schema() -> dict[str, Any]:
    """The schema of a whole `fleet.yaml`, each section described by its own words."""
    return {"$schema": DIALECT, **Settings.model_json_schema(), "title": "fleet.yaml"}


def schema_text() -> str:
    """The schema as it lies in `docs/fleet.schema.json`."""
    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"
