"""Which live errors count for a segment's champion: its own issues, once they are over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from assets.drift.errors import AWAITED, JUDGED, NO_ACTUALS, NO_PROMISE, error_evidence
from assets.evaluation.live_errors import BY_SEGMENT, ISSUE, LIVE_ERRORS
from resources.files import write_parquet
from resources.lake import Lake

WEEK, TRAINED = 7, 1_000
KEYS = ("bad", "fine", "silent", "unpromised", "kept")


def lake_with(folder: Path, issues: int, said_through: int) -> Lake:
    """A lake whose history has so many weekly issues, the first made where the training ended."""
    lake = Lake(uri=str(folder))
    table, said, files = lake.table(LIVE_ERRORS), {}, []
    with table.staging() as staging:
        for issue in range(issues):
            origin = TRAINED + issue * WEEK
            rows = [_row(key, count) for key, count in (("bad", 7), ("fine", 7), ("unpromised", 7), ("kept", 7))]
            rows.append(_row("silent", 0, missing=7))
            files.append(f"{ISSUE}={issue}/rows.parquet")
            write_parquet(pa.Table.from_pylist(rows, BY_SEGMENT), f"{staging.uri}/{files[-1]}")
            said[str(issue)] = {"origin": origin, "end": origin + 4 * WEEK, "last_period": said_through}
        schema = BY_SEGMENT.append(pa.field(ISSUE, pa.int64()))
        table.commit(staging, schema, {"issues": said}, partition_by=[ISSUE], files=files)
    return lake


def _row(key: str, count: int, missing: int = 0) -> dict[str, Any]:
    absolute = {"bad": 40.0, "kept": 40.0}.get(key, 5.0)
    sums = {"count": count, "missing": missing, "absolute": absolute if count else 0.0, "squared": 1.0, "signed": 0.0}
    said = {"role": "served", "version": 1, "model": "segment", "in_force": True, "sampled": False}
    return {"segment": key, "label_absolute": 1.0, **said, **sums}


def listing() -> pa.Table:
    """On the holdout everybody erred by one; who keeps the incumbent, by the incumbent's ten."""
    count = [28, 28, 28, 0, 28]
    errors = [28.0, 28.0, 28.0, None, 28.0]
    return pa.table({
        "segment": list(KEYS),
        "count": pa.array(count, pa.int64()),
        "served_absolute": errors,
        "served_squared": errors,
        "incumbent_absolute": [None] * 4 + [280.0],
        "incumbent_squared": [None] * 4 + [2800.0],
        "outcome": ["promoted"] * 4 + ["kept"],
    })  # fmt: skip


def evidence(lake: Lake, last: int, trained: int = TRAINED) -> dict[str, dict[str, Any]]:
    found = error_evidence(lake, listing(), np.full(len(KEYS), trained), last, 0.5)
    return dict(zip(KEYS, found.to_pylist(), strict=True))


@pytest.fixture
def history(tmp_path: Path) -> Lake:
    return lake_with(tmp_path, 6, TRAINED + 6 * WEEK)


def test_every_state_is_told(history: Lake) -> None:
    found = evidence(history, TRAINED + 6 * WEEK)
    states = {key: row["error_state"] for key, row in found.items()}
    assert states == {"bad": JUDGED, "fine": JUDGED, "silent": NO_ACTUALS, "unpromised": NO_PROMISE, "kept": JUDGED}
    assert found["bad"]["e_value"] > 50 > 1 > found["fine"]["e_value"]
    assert found["silent"]["e_value"] is None
    assert found["bad"]["live_ratio"] > 3


def test_who_kept_its_incumbent_is_held_to_the_incumbents_promise(history: Lake) -> None:
    assert evidence(history, TRAINED + 6 * WEEK)["kept"]["e_value"] < 1


def test_an_issue_counts_once_its_time_in_force_is_over(history: Lake) -> None:
    # the last of the six is in force until its end, three weeks from now
    assert evidence(history, TRAINED + 6 * WEEK)["bad"]["live_issues"] == 5
    assert evidence(history, TRAINED + 2 * WEEK + 3)["bad"]["live_issues"] == 2


def test_issues_from_before_the_training_are_somebody_elses(history: Lake) -> None:
    later = evidence(history, TRAINED + 6 * WEEK, trained=TRAINED + 3 * WEEK)
    assert later["bad"]["live_issues"] == 2
    assert later["bad"]["e_value"] < evidence(history, TRAINED + 6 * WEEK)["bad"]["e_value"]


def test_before_any_issue_is_scored_all_is_awaited(tmp_path: Path) -> None:
    found = evidence(Lake(uri=str(tmp_path)), TRAINED)
    assert {row["error_state"] for key, row in found.items() if key != "unpromised"} == {AWAITED}
    assert all(row["e_value"] is None for row in found.values())
