"""Drift looked at by the real jobs: a fleet is trained, data lands of which some drifted, and what is then to be seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import AssetKey, DagsterEventType, EventRecordsFilter, ExecuteInProcessResult

from assets.drift.verdict import DRIFT, DriftVerdict, latest_drift
from assets.evaluation.incumbent import published_champion
from resources.spark import Spark
from tests.cycle import House, give_store, house

SHOPS, DAYS = 14, 200
DRIFTED = (3, 9)
KEYS: dict[str, Any] = {
    "features": {
        "known_ahead": ["price", "kind"],
        "past_only": ["visits"],
        "lags": [4, 8],
        "rolling": {"windows": [4], "statistics": ["mean"]},
        "calendar": ["day_of_week", "trend"],
    },
    "model": {"rounds": 5, "params": {"min_data_in_leaf": 3}},
    "drift": {"worst": 1},
}


def shops(days: int, drifted: tuple[int, ...] = (), silent: tuple[int, ...] = ()) -> pd.DataFrame:
    """Sales by price, kind and visits; some drift after the first `DAYS` days, of some nothing comes any more."""
    frames = []
    for number in range(SHOPS):
        draw = np.random.default_rng(number)
        price, visits = draw.normal(10, 1, 400), draw.normal(100, 10, 400)
        kind, sold = draw.choice(["a", "b"], 400), 50 - 2 * price + draw.normal(0, 2, 400)
        if number in drifted:
            sold[DAYS:] += 30
        columns = {"sold": sold, "price": price, "visits": visits, "kind": kind}
        frame = pd.DataFrame({"shop": f"s{number}", "day": pd.date_range("2024-01-01", periods=400), **columns})
        last = DAYS if number in silent else days
        frames.append(frame[: last + 4].assign(sold=lambda rows, last=last: rows["sold"].where(rows.index < last)))
    return pd.concat(frames, ignore_index=True)


def ingest(home: House) -> ExecuteInProcessResult:
    from orchestration.definitions import fleet_definitions

    job = fleet_definitions(home.settings).resolve_job_def("ingest")
    config = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    return job.execute_in_process(instance=home.instance, resources={"spark": home.spark}, run_config=config)


@dataclass(frozen=True)
class Watched:
    """A fleet that was trained, and one look at what came since."""

    home: House
    first: DriftVerdict | None
    result: ExecuteInProcessResult
    verdict: DriftVerdict

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["segment"]: row for row in self.home.lake.table(DRIFT).arrow(version=0).to_pylist()}

    def metadata(self) -> dict[str, Any]:
        [event] = [
            each
            for each in self.result.get_asset_materialization_events()
            if each.asset_key == AssetKey(["tiny", DRIFT])
        ]
        return dict(event.materialization.metadata)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> Watched:
    home = house(tmp_path_factory.mktemp("drift"), spark, **KEYS)
    home.bring(shops(DAYS))
    give_store(home)
    assert home.run().success
    first = latest_drift(home.lake)
    home.bring(shops(DAYS + 14, DRIFTED, silent=(5,)))
    result, verdict = ingest(home), latest_drift(home.lake)
    assert verdict is not None
    return Watched(home, first, result, verdict)


def test_before_anybody_serves_there_is_no_verdict(watched: Watched) -> None:
    assert watched.first is None


def test_just_the_drifted_segments_are_alarmed(watched: Watched) -> None:
    verdict = watched.verdict
    assert verdict.drifted().to_pylist() == ["s3", "s9"]
    assert (verdict.new, verdict.judged) == (2, SHOPS - 1)
    assert verdict.share == pytest.approx(2 / (SHOPS - 1))
    assert verdict.through == "2024-08-01T00:00:00"


def test_a_row_says_why_and_what_could_not_be_judged(watched: Watched) -> None:
    rows = watched.rows
    assert (rows["s3"]["state"], rows["s3"]["why"], rows["s3"]["column"]) == ("judged", "data", "sold")
    assert rows["s3"]["effect"] > 2
    assert (rows["s3"]["rows"], rows["s3"]["reference_rows"]) == (14, DAYS)
    assert rows["s5"]["state"] == "no current rows"
    assert rows["s5"]["error_state"] == "missing actuals"
    assert not rows["s5"]["alarmed"]
    assert rows["s1"]["why"] == ""


def test_the_asset_shows_worst_segments_features_history_and_reports(watched: Watched) -> None:
    metadata = watched.metadata()
    worst = [record.data["segment"] for record in metadata["worst segments"].records]
    assert sorted(worst[:2]) == ["s3", "s9"]
    assert metadata["worst features"].records[0].data["column"] == "sold"
    assert metadata["history"].records[0].data["drifted"] == 2
    for name in ("features by segment group", "share drifted"):
        assert metadata[name].value.startswith("![plot](data:image/png;base64,")
    reports = {
        name.removeprefix("report: "): each.value for name, each in metadata.items() if name.startswith("report")
    }
    assert set(reports) == {"fleet", worst[0]}  # drift.worst: 1
    for uri in reports.values():
        assert "<html" in Path(uri).read_text(encoding="utf-8")[:500].lower()


def test_its_checks_say_what_came(watched: Watched) -> None:
    found = {each.check_name: each for each in watched.result.get_asset_check_evaluations()}
    assert found["drifted_share"].passed
    assert found["calibrated"].passed
    assert found["current_data_arrived"].passed  # one of fourteen lacks its rows
    assert found["current_data_arrived"].metadata["without rows"].value == 1


def test_a_segments_own_partition_shows_it(watched: Watched) -> None:
    key = AssetKey(["tiny", "segment_models"])
    asked = EventRecordsFilter(DagsterEventType.ASSET_OBSERVATION, asset_key=key, asset_partitions=["s9"])
    [record] = watched.home.instance.event_log_storage.get_event_records(asked)
    observation = record.event_log_entry.asset_observation
    assert observation is not None
    assert observation.metadata["drifted"].value is True
    assert observation.metadata["drift column"].value == "sold"


def test_looking_again_is_no_new_evidence_and_an_alarm_stands_until_trained_anew(watched: Watched) -> None:
    home = watched.home
    ingest(home)
    assert latest_drift(home.lake) == watched.verdict
    home.bring(shops(DAYS + 17, DRIFTED, silent=(5,)))  # not a window more
    ingest(home)
    later = latest_drift(home.lake)
    assert later is not None
    assert (later.new, later.digest) == (0, watched.verdict.digest)
    assert later.drifted().to_pylist() == ["s3", "s9"]
    rows = {row["segment"]: row for row in home.lake.table(DRIFT).arrow().to_pylist()}
    assert (rows["s3"]["state"], rows["s3"]["column"]) == ("waiting", "sold")
    result = home.run()
    assert result.success
    # what came was looked at before somebody served who was trained on it
    steps = [event.step_key for event in result.all_events if event.is_step_success]
    assert steps.index("tiny__drift") < steps.index("tiny__champions")
    ingest(home)
    anew, serving = latest_drift(home.lake), published_champion(home.lake, home.mlflow)
    assert anew is not None
    assert serving is not None
    # the gate decides who serves: an alarm falls where somebody does who was trained on what came
    through = dict(zip(*(serving.listing[name].to_pylist() for name in ("segment", "trained_through")), strict=True))
    kept = {key for key in ("s3", "s9") if through[key] == rows[key]["trained"]}
    assert set(anew.drifted().to_pylist()) == kept
    assert json.dumps(home.lake.table(DRIFT).record())  # what a record says is plain
