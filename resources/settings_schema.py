"""The JSON schema of `fleet.yaml`, by which an editor completes keys and marks mistakes."""

from __future__ import annotations

import json
from typing import Any

from resources.settings import Settings
from resources.targets import TARGETS

DIALECT = "https://json-schema.org/draft/2020-12/schema"  # the one that pydantic writes
SAID = "What is different in a place that the fleet runs in, merged in depth; null takes a key away: docs/targets.md."


def settings_schema() -> dict[str, Any]:
    """The schema of a whole `fleet.yaml`, each section described by its own words."""
    schema = {"$schema": DIALECT, **Settings.model_json_schema(), "title": "fleet.yaml"}
    schema["properties"][TARGETS] = {
        "title": "Targets",
        "description": SAID,
        "type": "object",
        "additionalProperties": {"anyOf": [_override(schema), {"type": "null"}]},
    }
    return schema


def _override(schema: dict[str, Any]) -> dict[str, Any]:
    """The document again, of which no key need be there, nor any of its sections."""
    properties = {}
    for key, value in schema["properties"].items():
        section = schema["$defs"].get(value.get("$ref", "").rpartition("/")[2], {})
        # a section that needs keys is written out without needing them
        inner = (
            {part: value for part, value in section.items() if part != "required"} if "required" in section else value
        )
        properties[key] = {"anyOf": [inner, {"type": "null"}]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def schema_text() -> str:
    """The schema as it lies in `docs/fleet.schema.json`."""
    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"
