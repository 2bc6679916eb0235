"""What is served against what the champion learnt from: shifted inputs are told, quiet ones and few rows are not."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dagster import AssetCheckEvaluation, AssetKey, DagsterInstance, materialize

from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import Published
from assets.champions.serving.answer import answered
from assets.champions.serving.watch import LOG, LOG_VARIABLE, SAMPLED_A_REQUEST, SECONDS_VARIABLE, SERVING, Watch
from assets.drift.asset import drift_asset
from assets.drift.served import (
    AHEAD,
    FEWEST,
    JUDGED,
    OUTPUT,
    SERVED_VALUES,
    TOO_FEW,
    TRAINED,
    ServedColumn,
    served_columns,
    shifted,
)
from assets.drift.verdict import DRIFT
from assets.serving.asset import serving_asset
from assets.serving.checks import serving_checks
from assets.serving.log import fold_log
from resources.settings import REPOSITORY_ROOT
from tests.champions.test_serve import as_split, post, serving
from tests.cycle import House, flats
from tests.served import KEY, Served, hostile_sales


def horizon(served: Served) -> pd.DataFrame:
    """Every row of the horizon, with what is committed for it."""
    keys, table = [*KEY, "day"], hostile_sales()
    wanted = served.forecasts[keys].merge(table[[*keys, "price", "weather", "open"]], on=keys)
    assert len(wanted) == len(served.forecasts) > FEWEST
    return wanted.sample(frac=1, random_state=0, ignore_index=True)


def ask(served: Served, rows: pd.DataFrame, requests: int) -> None:
    """Lets the champion answer rows, as its server does, and folds what was logged."""
    tags = served.champion.tags
    fleet = ServedFleet(Published(served.lake.root, tags["published"], tags["training"]))
    watch = Watch(served.lake.path(LOG), served.champion.version, fleet.view().question.given)
    for part in np.array_split(rows, requests):
        watch.timed(part, lambda part=part: answered(fleet.view(), 1, part))
    watch.flush()
    fold_log(served.lake, datetime.now(UTC))


def found(served: Served) -> dict[str, ServedColumn]:
    return {each.column: each for each in served_columns(served.lake, served.champion)}


def looked_at(served: Served) -> tuple[AssetCheckEvaluation, dict[str, Any]]:
    """The check, and the asset's metadata, once the log was folded."""
    settings, resources = served.home.settings, {"lake": served.lake, "mlflow": served.home.mlflow}
    with DagsterInstance.ephemeral() as instance:
        made = [serving_asset(settings), *serving_checks(settings)]
        result = materialize(made, instance=instance, resources=resources)
        event = instance.get_latest_materialization_event(AssetKey(["tiny", SERVING]))
    assert event is not None
    assert event.asset_materialization is not None
    [check] = [each for each in result.get_asset_check_evaluations() if each.check_name == "served_values"]
    return check, dict(event.asset_materialization.metadata)


@contextmanager
def server(served: Served, folder: Path) -> Iterator[str]:
    environment = {
        "MLFLOW_TRACKING_URI": served.home.settings.tracking_uri,
        "PYTHONPATH": str(REPOSITORY_ROOT),
        LOG_VARIABLE: served.lake.path(LOG),
        SECONDS_VARIABLE: "0.2",
    }
    with serving("models:/tiny@champion", folder, environment) as address:
        yield address


@pytest.mark.parametrize(("cents", "passes"), [(1, True), (100, False)])
def test_a_client_that_sends_another_unit_is_told_and_one_that_does_not_is_not(
    own_served: Served, tmp_path: Path, cents: int, passes: bool
) -> None:
    rows = horizon(own_served)
    sent = rows.assign(price=rows["price"] * cents)
    with server(own_served, tmp_path) as address:
        for part in np.array_split(sent, len(sent)):
            status, answer = post(address, as_split(part))
            assert status == 200, answer
    check, metadata = looked_at(own_served)
    assert (check.passed, check.severity.value) == (passes, "WARN")
    moved = check.metadata["moved"].value
    assert ("price" in moved) is not passes  # type: ignore[operator]
    shown = {row.data["column"]: row.data for row in metadata[SERVED_VALUES].value.records}
    assert {"price", "weather", "open", OUTPUT} == set(shown)
    assert (shown["price"]["effect"] > 0.5) is not passes


def test_the_look_at_drift_shows_what_was_served(own_served: Served) -> None:
    ask(own_served, horizon(own_served), 60)
    settings, home = own_served.home.settings, own_served.home
    with DagsterInstance.ephemeral() as instance:
        resources = {"lake": home.lake, "mlflow": home.mlflow, "spark": home.spark}
        materialize([drift_asset(settings)], instance=instance, resources=resources)
        event = instance.get_latest_materialization_event(AssetKey(["tiny", DRIFT]))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata[SERVED_VALUES].value
    assert {row.data["column"] for row in shown.records} == {OUTPUT, "price", "weather", "open"}  # type: ignore[union-attr]


def test_few_rows_say_nothing_however_odd(own_served: Served) -> None:
    rows = horizon(own_served)[:40]
    ask(own_served, rows.assign(price=1e6), len(rows))
    assert {each.state for each in found(own_served).values()} == {TOO_FEW}
    assert looked_at(own_served)[0].passed


def test_rows_of_one_request_count_as_one_each_time(own_served: Served) -> None:
    rows = horizon(own_served)
    ask(own_served, rows.assign(price=1e6), 10)
    price = found(own_served)["price"]
    assert (price.state, price.rows) == (TOO_FEW, 10 * SAMPLED_A_REQUEST)
    assert price.worth == pytest.approx(10)


def test_a_category_that_was_never_there_is_told(own_served: Served) -> None:
    rows = horizon(own_served)
    ask(own_served, rows.assign(weather=np.where(np.arange(len(rows)) % 2 == 0, "hail", rows["weather"])), len(rows))
    columns = served_columns(own_served.lake, own_served.champion)
    assert "weather" in [each.column for each in shifted(columns, 0.5)]
    assert "open" not in [each.column for each in shifted(columns, 0.5)]


def test_the_nearer_reference_counts(own_served: Served) -> None:
    rows = horizon(own_served)
    ask(own_served, rows, len(rows))
    columns = found(own_served)
    assert columns[OUTPUT].reference == AHEAD
    assert columns[OUTPUT].effect == pytest.approx(0.0, abs=0.2)
    assert {each.state for each in columns.values()} == {JUDGED}
    assert {each.reference for each in columns.values()} <= {AHEAD, TRAINED}


def test_what_another_version_answered_says_nothing_of_the_champion(own_served: Served) -> None:
    tags = {"version": own_served.champion.version + 1}
    watch = Watch(own_served.lake.path(LOG), tags["version"])
    for _ in range(200):
        watch.timed(pd.DataFrame({"price": [1e6]}), lambda: pd.DataFrame({"forecast": [1e9], "model": ["segment"]}))
    watch.flush()
    fold_log(own_served.lake, datetime.now(UTC))
    assert found(own_served) == {}
    assert looked_at(own_served)[0].passed


def test_a_table_without_time_has_what_it_was_trained_on(timeless: Served, tmp_path: Path) -> None:
    shutil.copytree(timeless.home.folder, tmp_path / "own")
    home = House(tmp_path / "own", timeless.home.spark)
    own = dataclasses.replace(timeless, made=dataclasses.replace(timeless.made, home=home))
    rows = flats(["plain", "a|b"], 150).drop(columns="rent").assign(size=lambda table: table["size"] / 100)
    ask(own, rows, len(rows))
    columns = found(own)
    assert {each.reference for each in columns.values()} == {TRAINED}
    assert set(columns) == {OUTPUT, "size", "floor", "kind", "lift"}
    moved = {each.column for each in shifted(list(columns.values()), 0.5)}
    assert moved >= {"size"}
    assert not moved & {"floor", "kind", "lift"}


def test_chance_and_small_shifts_are_told_apart_from_what_matters() -> None:
    def column(name: str, effect: float, p_value: float) -> ServedColumn:
        return ServedColumn(name, JUDGED, 400, 100.0, TRAINED, effect, p_value)

    columns = [column("chance", 2.0, 0.02), column("little", 0.4, 1e-9), column("moved", 0.6, 1e-4)]
    assert [each.column for each in shifted([*columns, ServedColumn("few", TOO_FEW, 3, 3.0)], 0.5)] == ["moved"]
