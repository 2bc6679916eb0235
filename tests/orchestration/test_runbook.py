"""The runbook has a section for all that can wake somebody: every check, every kind of message, every word of a sensor."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from orchestration.definitions import fleet_definitions
from resources.settings import REPOSITORY_ROOT, Settings
from tests.cycle import minimal

RUNBOOK = (REPOSITORY_ROOT / "docs" / "operations.md").read_text()
HEADINGS = re.findall(r"^### `(.+)`$", RUNBOOK, re.MULTILINE)
SENSORS = REPOSITORY_ROOT / "orchestration" / "sensors"
# heading -> a part of the message's title, and the module that writes it
MESSAGES = {
    "NAME: JOB failed": (" failed", "run_message"),
    "NAME: JOB: 1 check failed": ("'check')} failed", "run_message"),
    "NAME: JOB: 1 check warned": ("'check')} warned", "run_message"),
    "NAME: JOB: some segments failed": ("some segments failed", "run_message"),
    "NAME: 7 of 200 segments drifted": (" segments drifted", "drift"),
    "NAME: weekly_cycle is late": (" is late", "late"),
    "NAME: models of version 12 are stale": (" are stale", "stale"),
}


def test_every_check_has_its_section_and_no_other_is_there() -> None:
    graph = fleet_definitions(Settings.model_validate(minimal())).resolve_asset_graph()
    checks = {f"{key.asset_key.path[-1]}.{key.name}" for key in graph.asset_check_keys}
    assert set(HEADINGS) - set(MESSAGES) == checks
    assert len(HEADINGS) == len(set(HEADINGS))


@pytest.mark.parametrize("severity", ["Stops", "Fails", "Warns"])
def test_a_section_says_whether_anything_is_stopped(severity: str) -> None:
    graph = fleet_definitions(Settings.model_validate(minimal())).resolve_asset_graph()
    blocking = {f"{key.asset_key.path[-1]}.{key.name}" for key in graph.asset_check_keys if graph.get(key).blocking}
    sections = dict(re.findall(r"^### `(\w+\.\w+)`\n\n(\w+)", RUNBOOK, re.MULTILINE))
    said = {name for name, word in sections.items() if word == severity}
    assert said <= blocking if severity == "Stops" else not said & blocking
    assert said


@pytest.mark.parametrize("heading", MESSAGES)
def test_every_kind_of_message_has_its_section(heading: str) -> None:
    part, module = MESSAGES[heading]
    assert heading in HEADINGS
    assert part in (SENSORS / f"{module}.py").read_text()


def test_no_message_is_written_elsewhere() -> None:
    wrote = {path.stem for path in SENSORS.glob("*.py") if any(call("Message", path.read_text()))}
    assert wrote == {module for _, module in MESSAGES.values()} | {"outbox"}  # which reads those that wait


def call(name: str, source: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def said_by_sensors() -> list[str]:
    """The longest fixed part of each text that a tick may say."""
    found = []
    for path in sorted(SENSORS.glob("*.py")):
        source = path.read_text()
        texts = [each.args[0] for each in call("SkipReason", source)] + [each.args[4] for each in call("tell", source)]
        parts = [[n.value for n in ast.walk(text) if isinstance(n, ast.Constant) and isinstance(n.value, str)] for text in texts]  # fmt: skip
        found += [max(part, key=len).strip() for part in parts if part and max(part, key=len).strip()]
    return found


@pytest.mark.parametrize("text", said_by_sensors())
def test_what_a_tick_says_is_explained(text: str) -> None:
    assert text.strip(":; ") in RUNBOOK


def test_commands_are_those_that_there_are() -> None:
    from typer.main import get_command

    from orchestration.cli import app

    known = get_command(app)
    assert hasattr(known, "commands")
    typed = set(re.findall(r"`fleet ([a-z]+)", RUNBOOK)) | set(re.findall(r"^fleet ([a-z]+)", RUNBOOK, re.MULTILINE))
    assert typed <= set(known.commands)


def test_links_lead_somewhere() -> None:
    for name in re.findall(r"\]\(([a-z_]+\.md)\)", RUNBOOK):
        assert (REPOSITORY_ROOT / "docs" / name).is_file()
