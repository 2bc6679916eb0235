"""Tables with a commit: a reader sees all of a version or nothing; what is not committed leaves no trace."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.files import read_file, write_file
from resources.lake import Lake
from resources.table import Staging, Table, staged_files

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("value", pa.float64())])


def stage(staging: Staging, table: pa.Table, relative: str = "part-0.parquet") -> None:
    path = Path(staging.uri.removeprefix("file://")) / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def rows(*values: float) -> pa.Table:
    return pa.table({"key": [f"k{value}" for value in values], "value": list(values)}, schema=SCHEMA)


def commit(table: Table, content: pa.Table, **more: object) -> int:
    with table.staging() as staging:
        stage(staging, content)
        return table.commit(staging, content.schema, {"rows": content.num_rows}, **more)


def values(table: Table, version: int | None = None) -> list[float]:
    return sorted(table.arrow(version=version)["value"].to_pylist())


def everything_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_before_the_first_commit_there_is_nothing(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    assert not table.exists()
    assert table.version() is None
    assert table.record() == {}
    assert table.records() == {}
    assert table.files() == []
    with pytest.raises(FileNotFoundError):
        table.arrow()
    assert everything_under(tmp_path) == []


def test_staged_files_are_invisible_until_the_commit(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    commit(table, rows(1))
    with table.staging() as staging:
        stage(staging, rows(2))
        assert values(table) == [1]
        table.commit(staging, SCHEMA, {}, mode="append")
        assert values(table) == [1, 2]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    table = Lake(uri=str(kept / "new" / "lake")).table("a/b")
    with pytest.raises(KeyboardInterrupt), table.staging() as staging:
        stage(staging, rows(1))
        raise KeyboardInterrupt
    assert everything_under(tmp_path) == ["kept"]


def test_a_failure_leaves_folders_that_were_there_before(tmp_path: Path) -> None:
    (tmp_path / "lake" / "sales").mkdir(parents=True)
    table = Lake(uri=str(tmp_path / "lake")).table("sales")
    with pytest.raises(ZeroDivisionError), table.staging():
        raise ZeroDivisionError
    assert everything_under(tmp_path) == ["lake", "lake/sales"]


def test_a_failure_after_other_commits_removes_only_its_own_files(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    commit(table, rows(1))
    with pytest.raises(ZeroDivisionError), table.staging() as staging:
        stage(staging, rows(2))
        commit(table, rows(3), mode="append")
        raise ZeroDivisionError
    assert values(table) == [1, 3]
    assert not Path(staging.uri).exists()


def test_a_failure_after_the_commit_keeps_what_was_committed(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    with pytest.raises(ZeroDivisionError), table.staging() as staging:
        stage(staging, rows(1))
        table.commit(staging, SCHEMA, {})
        raise ZeroDivisionError
    assert values(table) == [1]


def test_overwrite_append_pinned_versions_and_a_record_for_each(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    assert [commit(table, rows(1)), commit(table, rows(2, 3)), commit(table, rows(4), mode="append")] == [
        0,
        1,
        2,
    ]
    assert [values(table, version) for version in (0, 1, 2, None)] == [[1], [2, 3], [2, 3, 4], [2, 3, 4]]
    assert [table.record(version) for version in (0, 1, 2)] == [{"rows": 1}, {"rows": 2}, {"rows": 1}]
    assert table.records() == {2: {"rows": 1}, 1: {"rows": 2}, 0: {"rows": 1}}
    assert table.record() == {"rows": 1}
    assert table.record(99) == {}


def test_overwrite_with_another_schema(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    commit(table, rows(1))
    other = pa.table({"key": [1, 2], "extra": ["a", None]})
    assert commit(table, other) == 1
    assert table.arrow().to_pydict() == {"key": [1, 2], "extra": ["a", None]}
    assert values(table, 0) == [1]


def test_only_the_named_files_are_committed(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    with table.staging() as staging:
        stage(staging, rows(1), "a.parquet")
        stage(staging, rows(2), "b.parquet")
        stage(staging, rows(3), "_temporary/c.parquet")
        (Path(staging.uri) / "_SUCCESS").touch()
        assert staged_files(staging) == ["a.parquet", "b.parquet"]
        table.commit(staging, SCHEMA, {}, files=["b.parquet"])
    assert values(table) == [2]


@pytest.mark.parametrize("content", [rows(), None])
def test_an_empty_table(tmp_path: Path, content: pa.Table | None) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    with table.staging() as staging:
        if content is not None:
            stage(staging, content)
        table.commit(staging, SCHEMA, {"rows": 0})
    assert table.exists()
    assert table.arrow().num_rows == 0
    assert table.arrow().schema.names == ["key", "value"]
    assert table.record() == {"rows": 0}


def test_columns_of_any_name(tmp_path: Path) -> None:
    names = ["a.b", "a b", "a,b", "a;b", "a{b}", "a(b)", "a=b", "a\tb", "a`b", 'a"b', "日本 🍦", "a@lag_7"]
    content = pa.table({name: [float(position)] for position, name in enumerate(names)})
    table = Lake(uri=str(tmp_path)).table("sales")
    commit(table, content)
    commit(table, content, mode="append")
    assert table.arrow(columns=["a.b", "a`b"]).to_pydict() == {"a.b": [0.0] * 2, "a`b": [8.0] * 2}
    assert table.arrow().column_names == names


def test_partition_columns_come_back_and_select_files(tmp_path: Path) -> None:
    table = Lake(uri=str(tmp_path)).table("sales")
    schema = SCHEMA.append(pa.field("city", pa.string())).append(pa.field("bucket", pa.int32()))
    with table.staging() as staging:
        stage(staging, rows(1), "city=a%20b/bucket=1/x.parquet")
        stage(staging, rows(2), "city=%E6%9C%AD%2F/bucket=2/x.parquet")
        table.commit(staging, schema, {}, partition_by=["city", "bucket"])
    found = table.arrow(where=[("city", "=", "札/")]).to_pylist()
    assert found == [{"key": "k2", "value": 2.0, "city": "札/", "bucket": 2}]
    assert len(table.files()) == 2
    [file] = table.files(where=[("bucket", "=", "1")])
    assert pq.ParquetFile(file).read()["value"].to_pylist() == [1]


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "#1", "é 🍦", "[x]", "a=b", "{y}", "a?b", "a+b"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_lake_at_any_path(tmp_path: Path, name: str, scheme: str) -> None:
    from urllib.parse import quote

    folder = tmp_path / name
    lake = Lake(uri=f"file://{quote(str(folder))}" if scheme else str(folder))
    table = lake.table("sales")
    with table.staging() as staging:
        stage(Staging(str(folder / "sales"), staging.folder), rows(1))
        table.commit(staging, SCHEMA, {})
    assert values(table) == [1]
    assert read_file(table.files()[0])
    lake.write_file("notes/a b.txt", b"x")
    assert lake.read_file("notes/a b.txt") == b"x"
    assert everything_under(tmp_path)[0] == name
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_write_file_is_whole_or_absent(tmp_path: Path) -> None:
    lake = Lake(uri=str(tmp_path / "lake"))
    assert lake.read_file("a/b.json") is None
    assert lake.write_file("a/b.json", b"one") == f"{tmp_path}/lake/a/b.json"
    lake.write_file("a/b.json", b"two")
    assert lake.read_file("a/b.json") == b"two"
    with pytest.raises(TypeError):
        write_file(lake.path("a/b.json"), "not bytes")  # type: ignore[arg-type]
    assert lake.read_file("a/b.json") == b"two"
    assert everything_under(tmp_path / "lake") == ["a", "a/b.json"]
