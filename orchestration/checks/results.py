"""What asset checks found in a run, as it is printed and written for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster import DagsterEvent

PASSED, WARNS, FAILED = "passed", "warns", "failed"
MARKS = {PASSED: "✅", WARNS: "⚠️", FAILED: "❌"}
MOST_SHOWN = 300


@dataclass(frozen=True)
class CheckResult:
    """One check's verdict: `passed`, `warns`, or `failed` (of severity ERROR); and what it says, in a line."""

    name: str
    outcome: str
    said: str

    @property
    def asset(self) -> str:
        """The asset that was checked."""
        return self.name.partition(".")[0]


def results_of(events: Iterable[DagsterEvent]) -> list[CheckResult]:
    """The checks that a run evaluated, by name (`asset.check`)."""
    from dagster import AssetCheckSeverity, DagsterEventType

    found = []
    for event in events:
        if event.event_type != DagsterEventType.ASSET_CHECK_EVALUATION:
            continue
        check = event.asset_check_evaluation_data
        outcome = PASSED if check.passed else FAILED if check.severity == AssetCheckSeverity.ERROR else WARNS
        said = "; ".join(f"{name}: {_plain(value.value)}" for name, value in check.metadata.items())
        found.append(CheckResult(f"{check.asset_key.path[-1]}.{check.check_name}", outcome, said))
    return sorted(found, key=lambda result: result.name)


def as_json(results: Sequence[CheckResult], facts: dict[str, Any]) -> str:
    """One JSON object: `facts` and the checks."""
    return json.dumps({**facts, "checks": [asdict(each) for each in results]}, indent=2, ensure_ascii=False) + "\n"


def as_markdown(title: str, results: Sequence[CheckResult], notes: Sequence[str]) -> str:
    """A page for a job's summary: what did not pass first."""
    counts = ", ".join(f"{sum(each.outcome == outcome for each in results)} {outcome}" for outcome in MARKS)
    ordered = sorted(results, key=lambda each: list(MARKS)[::-1].index(each.outcome))
    rows = [f"| {MARKS[each.outcome]} | `{each.name}` | {_in_a_cell(each.said)} |" for each in ordered]
    told = [f"- {_in_a_cell(note)}" for note in notes]
    return "\n".join([f"## {title}", "", f"{counts}.", "", *told, "", "| | check | says |", "|---|---|---|", *rows, ""])


def as_junit(title: str, results: Sequence[CheckResult], problems: Sequence[str]) -> str:
    """JUnit's XML: a test case a check, and one for each problem that is no check's; warnings pass, and are told."""
    from junitparser import Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite(title)
    for each in results:
        case = TestCase(each.name.partition(".")[2], classname=each.asset, time=0)
        if each.outcome == FAILED:
            case.result = [Failure(_of_xml(each.said))]
        elif each.outcome == WARNS:
            case.system_out = _of_xml(f"warns: {each.said}")
        suite.add_testcase(case)
    for problem in problems:
        case = TestCase("accepted", classname="checks.lock.json", time=0)
        case.result = [Failure(_of_xml(problem))]
        suite.add_testcase(case)
    xml = JUnitXml()
    xml.add_testsuite(suite)
    xml.update_statistics()
    return str(xml.tostring().decode())


def _plain(value: Any) -> str:
    return ("; ".join(map(str, value)) if isinstance(value, list) else str(value))[:MOST_SHOWN]


def _in_a_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _of_xml(text: str) -> str:
    """A text without the control characters that XML cannot hold."""
    return "".join(letter for letter in text if letter in "\t\n" or (letter.isprintable() and letter < "\ud800"))
