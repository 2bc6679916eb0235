"""Rows handed over through files: each comes once, to the part of its own, and nothing stays behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from resources.exchange import EXCHANGE, Exchange, exchange, exchanged_in, in_portions
from resources.spark import Spark
from tests.buckets import Bucket

PORTION = st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.text(max_size=3))), max_size=12)


def portion_of(rows: list[tuple[int, str | None]]) -> tuple[pa.Table, np.ndarray]:
    table = pa.table({
        "text": pa.array([text for _, text in rows], pa.string()),
        "names": pa.array([[str(part)] * part for part, _ in rows], pa.list_(pa.string())),
    })  # fmt: skip
    return table, np.array([part for part, _ in rows], np.int64)


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tasks=st.lists(st.lists(PORTION, max_size=4), max_size=4))
def test_every_row_comes_once_in_order_to_its_part(tmp_path: Path, tasks: list[list[list]]) -> None:
    with exchange(str(tmp_path / "lake"), 4) as given_over:
        files = []
        for portions in tasks:
            with given_over.writer() as writer:
                for rows in portions:
                    writer.write(*portion_of(rows))
            assert (writer.file is None) is (not any(portions))
            files += [writer.file] if writer.file else []
        for part in range(4):
            wanted = [row for portions in tasks for rows in portions for row in rows if row[0] == part]
            found = given_over.rows(files, part)
            assert (found is None) is (not wanted)
            if found is not None:
                assert found["text"].to_pylist() == [text for _, text in wanted]
                assert found["names"].to_pylist() == [[str(part)] * part] * len(wanted)
    assert not (tmp_path / "lake").exists()


def test_the_folder_goes_whatever_happens_and_the_lake_stays(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    with pytest.raises(OSError, match="lost"), exchange(str(tmp_path), 2) as given_over:
        with given_over.writer() as writer:
            writer.write(*portion_of([(0, "a")]))
        assert [path.name.startswith(EXCHANGE) for path in tmp_path.iterdir() if path.name != "table"] == [True]
        raise OSError("lost")
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_what_a_task_wrote_that_died_is_not_read(tmp_path: Path) -> None:
    given_over = Exchange(str(tmp_path), 2)
    with pytest.raises(OSError, match="killed"), given_over.writer() as writer:
        writer.write(*portion_of([(1, "half")]))
        raise OSError("killed")
    with given_over.writer() as again:
        again.write(*portion_of([(1, "whole")]))
    assert len(list(tmp_path.iterdir())) == 2
    assert given_over.rows([again.file], 1)["text"].to_pylist() == ["whole"]


def test_rows_in_a_bucket(bucket: Bucket) -> None:
    with exchange(f"{bucket.uri}/lake", 3) as given_over:
        with given_over.writer() as writer:
            writer.write(*portion_of([(2, "x"), (0, "y"), (2, None)]))
            writer.write(*portion_of([(2, "z")]))
        assert given_over.rows([writer.file], 2)["text"].to_pylist() == ["x", None, "z"]
        assert given_over.rows([writer.file], 1) is None


def test_what_cannot_be_removed_hides_nothing_that_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(uri: str) -> None:
        raise OSError(f"Cannot delete directory {uri}")

    monkeypatch.setattr("resources.files.remove", busy)
    with pytest.raises(ValueError, match="what went wrong"), exchange(str(tmp_path), 2):
        raise ValueError("what went wrong")
    with exchange(str(tmp_path), 2) as given_over:
        pass
    assert Path(given_over.folder).is_dir()  # a prune removes it once it is a day old


def test_who_works_alone_hands_nothing_over_through_a_bucket() -> None:
    alone, aside = Spark(master="local[2]"), Spark(master="local[2]", conf={"spark.local.dir": "/scratch,/more"})
    assert exchanged_in("s3://bucket/lake", Spark(master="spark://host:7077")) == "s3://bucket/lake"
    assert exchanged_in("s3://bucket/lake", alone) == tempfile.gettempdir()
    assert exchanged_in("s3://bucket/lake", aside) == "/scratch"
    assert exchanged_in("/data/lake", alone) == "/data/lake"


def test_batches_are_put_together_and_none_is_lost() -> None:
    batches = [pa.RecordBatch.from_pydict({"n": list(range(first, first + 7))}) for first in range(0, 70, 7)]
    portions = list(in_portions(iter(batches), 20))
    assert [portion.num_rows for portion in portions] == [21, 21, 21, 7]
    assert [n for portion in portions for n in portion["n"].to_pylist()] == list(range(70))
    assert list(in_portions(iter([]), 20)) == []


def test_long_texts_are_put_together_until_they_are_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.exchange.BYTES_AT_ONCE", 5_000)
    batches = [pa.RecordBatch.from_pydict({"text": ["x" * 2_000]}) for _ in range(7)]
    assert [portion.num_rows for portion in in_portions(iter(batches), 100)] == [3, 3, 1]
