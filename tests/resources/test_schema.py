"""The JSON schema of `fleet.yaml`: on disk as the code makes it, and of one mind with what the settings accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from resources.section import Section
from resources.settings import REPOSITORY_ROOT, Settings, read_settings
from resources.settings_schema import schema_text, settings_schema

FILE = REPOSITORY_ROOT / "docs" / "fleet.schema.json"
RICH = """\
name: energy
source: {path: "readings/*.csv", format: csv, options: {sep: ";", header: true}}
segment: [site, meter]
time: timestamp
label: kwh
frequency: h
horizon: 24
features:
  known_ahead: temperature
  past_only: [load]
  lags: [24, 168]
  rolling: {windows: [24], statistics: [mean, max]}
  calendar: [hour, day_of_week]
contract:
  columns:
    kwh: {type: number, minimum: 0, maximum: 1.5e+3, tolerance: 0.01}
    site: {type: text, nullable: false, allowed: [north, 7, true], action: fail}
  aliases: {kwh: consumption, load: [l1, l2]}
  expectations: [{name: plausible, predicate: kwh < 10 * load, action: warn}]
model: {objective: poisson, rounds: 50, params: {num_leaves: 7, extra_trees: true}}
evaluation: {holdout: 48, metric: rmse}
schedule: {cron: "0 3 * * 1", timezone: Asia/Tokyo, enabled: false}
owner: team:energy
"""
TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": int | float,
}  # fmt: skip


def mistakes(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """Where a document breaks the parts of a schema that say what an editor underlines: types, keys, choices."""
    if "$ref" in schema:
        return mistakes(value, settings_schema()["$defs"][schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema:
        return [] if any(not mistakes(value, option, where) for option in schema["anyOf"]) else [where]
    if ("enum" in schema and value not in schema["enum"]) or not of_type(value, schema.get("type")):
        return [where]
    if isinstance(value, list):
        return [mistake for item in value for mistake in mistakes(item, schema["items"], f"{where}[]")]
    return mistakes_in_keys(value, schema, where) if isinstance(value, dict) else []


def of_type(value: Any, name: str | None) -> bool:
    if name is None or name == "null":
        return name is None or value is None
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def mistakes_in_keys(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    found = [f"{where}.{key}" for key in schema.get("required", []) if key not in value]
    for key, item in value.items():
        known = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
        if known is False:
            found.append(f"{where}.{key}")
        elif known is not True:
            found += mistakes(item, known, f"{where}.{key}")
    return found


def test_the_file_is_what_the_code_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), (
        "fleet.yaml's settings changed: .venv/bin/fleet schema > docs/fleet.schema.json"
    )


def test_the_demo_names_the_schema_in_its_first_line() -> None:
    first = (REPOSITORY_ROOT / "fleet.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/fleet.schema.json"


def test_it_has_a_title_a_dialect_and_every_section_in_its_own_words() -> None:
    schema = settings_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["title"] == "fleet.yaml"
    assert schema["required"] == ["name", "source", "segment", "label"]
    sections = {section.__name__ for section in Section.__subclasses__()} - {Settings.__name__}
    described = {name for name, part in schema["$defs"].items() if part.get("description")}
    assert sections & set(schema["$defs"]) == described
    assert {"Source", "Features", "Contract", "ColumnContract", "Schedule"} <= described


def test_names_are_one_or_many() -> None:
    one_or_many = [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]
    schema = settings_schema()
    assert schema["properties"]["segment"]["anyOf"] == one_or_many
    assert schema["$defs"]["Contract"]["properties"]["aliases"]["additionalProperties"]["anyOf"] == one_or_many


def test_what_the_settings_accept_the_schema_accepts(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(RICH, encoding="utf-8")
    assert read_settings(file).features.known_ahead == ["temperature"]
    assert mistakes(yaml.safe_load(RICH), settings_schema()) == []
    demo = yaml.safe_load((REPOSITORY_ROOT / "fleet.yaml").read_text(encoding="utf-8"))
    assert mistakes(demo, settings_schema()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "where"),
    [
        ("horizon: 24", "horizn: 24", ".horizn"),
        ("segment: [site, meter]", "segment: 3", ".segment"),
        ("format: csv", "format: xlsx", ".source.format"),
        ("label: kwh\n", "", ".label"),
        ("rounds: 50", "rounds: true", ".model.rounds"),
        ("action: fail", "action: stop", ".contract.columns.site.action"),
        ("predicate: kwh", "predicat: kwh", ".contract.expectations[].predicat"),
    ],
)
def test_a_mistake_is_one_for_the_schema_too(right: str, wrong: str, where: str) -> None:
    assert right in RICH
    assert where in mistakes(yaml.safe_load(RICH.replace(right, wrong)), settings_schema())
