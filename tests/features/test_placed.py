"""Rows placed and handed over: whatever their file's groups of rows are, and to whom those that nobody asks about go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.features.contract import BUCKET
from assets.features.placed import Placing, _parts_of
from assets.features.publish import FEATURES, QUARANTINE, publish_features
from assets.raw import snapshot
from assets.raw.ingest import ingest
from assets.raw.parse import KEY, PERIOD, REASONS
from assets.raw.snapshot import RAW, Piece, Share, batches_of_share, rows_at_once
from resources.exchange import Exchange
from resources.spark import Spark
from tests.conftest import MakeFleet, daily_sales


@pytest.fixture
def small_groups(spark: Spark) -> Iterator[None]:
    """Parquet files that Spark writes have many groups of rows."""
    conf = spark.session().conf
    conf.set("parquet.block.size", "4096")
    conf.set("parquet.page.size.row.check.min", "10")
    yield
    conf.unset("parquet.block.size")
    conf.unset("parquet.page.size.row.check.min")


@pytest.mark.usefixtures("small_groups")
def test_a_row_is_refused_in_a_file_of_many_groups(spark: Spark, make_fleet: MakeFleet) -> None:
    table = daily_sales(shops=12, days=300)
    table["shop"] = pd.array(
        np.repeat(np.arange(12), 300), pd.Int64Dtype()
    )  # integers have no dictionary in Spark's files
    table.loc[[5, 2900], "shop"] = None
    fleet = make_fleet(table, horizon=7)
    ingest(fleet.lake, spark, fleet.settings)
    groups = [pq.ParquetFile(file).num_row_groups for file in fleet.lake.table(RAW).files()]
    assert max(groups) > 3, "the test must see several groups"
    rows = publish_features(fleet.lake, spark, fleet.settings).record["rows"]
    assert rows == {"read": 3600, "valid": 3598, "quarantined": 2, "by_reason": {"null_segment:shop": 2}}
    refused = fleet.lake.table(QUARANTINE).arrow().to_pandas().sort_values("__row")
    assert list(refused["day"].astype(str)) == list(table.loc[[5, 2900], "day"].astype(str))
    assert refused["shop"].isna().all()


def test_rows_that_get_lost_on_the_way_are_missed(
    spark: Spark, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = make_fleet(daily_sales(shops=30, days=60), horizon=7)
    ingest(fleet.lake, spark, fleet.settings)
    monkeypatch.setattr("assets.features.handed.parts_for", lambda *_: 4)
    monkeypatch.setattr("assets.features.settled.range", lambda parts: range(1, parts), raising=False)
    with pytest.raises(RuntimeError, match=r"of 1,800 rows 1,\d\d\d arrived; nothing is committed"):
        publish_features(fleet.lake, spark, fleet.settings)
    assert not fleet.lake.table(FEATURES).exists()
    assert not fleet.lake.table(QUARANTINE).exists()


def parts_of(all_told: bool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(Placing, "all_told", all_told)
    rows = pa.table({
        KEY: ["", "", "", "", "a", "a", "a"], BUCKET: pa.array([0, 0, 0, 0, 7, 7, 7], pa.int32()),
        REASONS: pa.array([["null_segment:shop"]] * 4 + [["duplicate"], ["unparsable:price"], []], pa.list_(pa.string())),
    })  # fmt: skip
    return _parts_of(rows, Placing("", 8, [KEY], [PERIOD]), 4, 0).tolist()


def test_refused_rows_are_dealt_evenly_where_no_other_row_has_to_do_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts_of(False, monkeypatch) == [0, 1, 2, 3, 0, 1, 3]
    assert parts_of(True, monkeypatch) == [0, 1, 2, 3, 3, 3, 3]


def test_the_wider_rows_are_the_fewer_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_at_once(9) == 1 << 18
    assert [rows_at_once(many) * many for many in (100, 1_000)] == pytest.approx([1 << 23] * 2, rel=0.01)
    assert rows_at_once(10**9) == 1_000
    monkeypatch.setattr(snapshot, "CELLS_AT_ONCE", 5_000)
    file = str(tmp_path / "wide.parquet")
    pq.write_table(pa.table({f"c{n}": np.arange(3_000) for n in range(4)}), file)
    schema = pq.read_schema(file)
    batches = list(batches_of_share(Share(0, [Piece(file, 0, 1)]), schema, schema.names))
    assert [batch.num_rows for batch in batches] == [1_250, 1_250, 500]


def test_what_is_handed_over_late_makes_no_folder_anew(tmp_path: Path) -> None:
    late = Exchange(str(tmp_path / "gone"), 2)
    with pytest.raises(FileNotFoundError), late.writer() as writer:
        writer.write(pa.table({"n": [1]}), np.zeros(1, np.int64))
    assert not (tmp_path / "gone").exists()
