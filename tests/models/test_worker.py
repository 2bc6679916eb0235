"""A bucket's training: a fit that goes wrong fails alone, and what lies in a shard is not fitted again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from assets.models import shard
from assets.models.line import FIT_COLUMNS, LINE
from assets.models.segment import fit_segment
from assets.models.shard import ShardWriter, known_fits
from assets.models.worker import BucketTask, train_bucket
from resources.settings import REPOSITORY_ROOT
from tests.models.small import LAST, bucket_file, bucket_lines, changed, models_of, plan, recipe, segment

KEYS = [f"s{number}" for number in range(6)]


def segments(*others: Any) -> list[Any]:
    found = {key: segment(seed=number, key=key) for number, key in enumerate(KEYS)}
    return list((found | {rows.key: rows for rows in others}).values())


def files_in(folder: Path) -> set[str]:
    return {str(path) for path in (folder / "lake").rglob("*") if path.is_file()}


def no_fit(*_: Any) -> dict[str, Any]:
    raise AssertionError("nothing had to be fitted")


def fit_with(accidents: dict[str, Any]) -> Any:
    def fit(rows: Any, *others: Any) -> dict[str, Any]:
        if rows.key in accidents:
            accidents[rows.key]()
        return fit_segment(rows, *others)

    return fit


def raises() -> None:
    raise RuntimeError("no reason")


ACCIDENTS = {
    "s1": (raises, "exit code 1"),
    "s2": (lambda: threading.Event().wait(), "took longer than 15 s"),
    "s4": (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal 9, SIGKILL"),
}


def test_fits_that_go_wrong_fail_alone_and_the_others_are_what_they_would_have_been(tmp_path: Path) -> None:
    good = bucket_lines(tmp_path, segments())
    wanted = {key: models_of(tmp_path, line) for key, line in good.items()}
    (tmp_path / "b").mkdir()
    fit = fit_with({key: accident for key, (accident, _) in ACCIDENTS.items()})
    lines = bucket_lines(tmp_path / "b", segments(), fit=fit, time_limit=15.0, retries=0)
    assert list(lines) == KEYS
    for key, line in lines.items():
        assert set(line) == set(LINE.names)
        if key in ACCIDENTS:
            assert line["status"] == "failed"
            assert ACCIDENTS[key][1] in line["reason"]
            assert (line["shard"], line["rows"], line["fold_count"]) == (None, 100, 10)
        else:
            models = models_of(tmp_path / "b", line)
            assert (models["served"], models["judged"]) == (wanted[key]["served"], wanted[key]["judged"])


def test_what_failed_is_tried_again_by_the_next_run_and_nothing_else(tmp_path: Path) -> None:
    first = bucket_lines(tmp_path, segments(), fit=fit_with({"s1": raises}), retries=0)
    second = bucket_lines(tmp_path, segments(), fit=fit_with(dict.fromkeys(set(KEYS) - {"s1"}, raises)), retries=0)
    assert first["s1"]["status"] == "failed"
    assert {line["status"] for line in second.values()} == {"trained"}
    assert {key: second[key]["shard"] for key in KEYS if key != "s1"} == {
        key: first[key]["shard"] for key in KEYS if key != "s1"
    }


def test_nothing_is_fitted_twice_and_its_line_is_the_same(tmp_path: Path) -> None:
    first, files = bucket_lines(tmp_path, segments()), files_in(tmp_path)
    second = bucket_lines(tmp_path, segments(), fit=no_fit, retries=0)
    assert second == first
    assert files_in(tmp_path) == files
    # the sums of other objectives have no value
    known = {name for name in FIT_COLUMNS if second["s0"][name] is not None}
    assert {"trees", "bytes", "seconds", "host", "fold_model_absolute", "served_digest", "judged_digest"} <= known


def test_one_other_label_is_one_other_fit(tmp_path: Path) -> None:
    first = bucket_lines(tmp_path, segments())
    fit = fit_with(dict.fromkeys(set(KEYS) - {"s3"}, raises))
    second = bucket_lines(tmp_path, segments(changed(segment(seed=3, key="s3"), LAST - 1)), fit=fit, retries=0)
    assert {key for key in KEYS if second[key]["shard"] != first[key]["shard"]} == {"s3"}
    assert second["s3"]["status"] == "trained"
    assert models_of(tmp_path, second["s3"])["served"] != models_of(tmp_path, first["s3"])["served"]


@pytest.mark.parametrize("keys", [{"shared": "another code"}, {"anew": True}])
def test_another_shared_part_or_force_fits_all_again(tmp_path: Path, keys: dict[str, Any]) -> None:
    first = bucket_lines(tmp_path, segments())
    second = bucket_lines(tmp_path, segments(), **keys)
    assert not {line["shard"] for line in first.values()} & {line["shard"] for line in second.values()}
    for key in KEYS:
        old, new = models_of(tmp_path, first[key]), models_of(tmp_path, second[key])
        assert (old["served"], old["judged"]) == (new["served"], new["judged"])


def test_a_run_that_dies_in_a_bucket_costs_what_was_not_finished(tmp_path: Path) -> None:
    task = BucketTask(0, (bucket_file(tmp_path, segments(), recipe()),))
    run = train_bucket(task, plan(tmp_path))
    begun = [next(run)["segment"] for _ in range(3)]
    run.close()  # type: ignore[attr-defined]
    assert begun == KEYS[:3]
    lines = bucket_lines(tmp_path, segments(), fit=fit_with(dict.fromkeys(begun, raises)), retries=0)
    assert {key: line["status"] for key, line in lines.items()} == dict.fromkeys(KEYS, "trained")
    assert {models_of(tmp_path, lines[key])["segment"] for key in KEYS} == set(KEYS)


def test_what_a_killed_writer_left_half_written_is_not_read(tmp_path: Path) -> None:
    first = bucket_lines(tmp_path, segments())
    folder = (tmp_path / "lake" / first["s0"]["shard"]).parent
    (folder / ".half").write_bytes(b"PAR1 and then nothing")
    assert bucket_lines(tmp_path, segments(), fit=no_fit, retries=0) == first


FRESH = """
import sys, pathlib
from resources.settings import REPOSITORY_ROOT
from tests.models.small import bucket_lines, segment
def fit(*_):
    return {"status": "failed", "reason": str("lightgbm" in sys.modules)}
assert "lightgbm" not in sys.modules
print(bucket_lines(pathlib.Path(sys.argv[1]), [segment()], fit=fit)["s"]["reason"])
"""


def test_a_child_finds_lightgbm_imported_by_the_worker_it_comes_from(tmp_path: Path) -> None:
    """The import takes seconds: a worker pays it once, not once a bucket, nor the first segment's time limit."""
    command = [sys.executable, "-c", FRESH, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_segments_with_the_same_rows_have_a_model_each(tmp_path: Path) -> None:
    """Twins such as two tariffs of the same price: their fingerprints are equal, their shards need not be."""
    one, twin = segment(key="one"), segment(key="twin")
    first = bucket_lines(tmp_path, [one, twin], task={"segments": frozenset({"one"})})
    both = bucket_lines(tmp_path, [one, twin])
    assert both["one"]["shard"] == first["one"]["shard"]
    models = {key: models_of(tmp_path, both[key]) for key in ("one", "twin")}
    assert models["one"]["served"] == models["twin"]["served"]


def test_however_many_shards_a_bucket_has_nothing_of_it_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow fits: a shard is due every five seconds, so that an hour of one bucket is hundreds of them."""
    monkeypatch.setattr(shard, "SEGMENTS_A_SHARD", 1)
    with ShardWriter(str(tmp_path), 3) as writer:
        shards = {f"print {n}": writer.add({"segment": f"s{n}", "fingerprint": f"print {n}"}) for n in range(100)}
    assert len(set(shards.values())) == 100
    found = known_fits(str(tmp_path), 3, set(shards), segments=100)
    assert {mark: row["shard"] for mark, row in found.items()} == shards
    assert known_fits(str(tmp_path), 4, set(shards), segments=100) == {}
    assert known_fits(str(tmp_path), 3, set(), segments=100) == {}


@pytest.mark.parametrize("key", KEYS)
def test_one_segment_of_a_bucket_of_many_shards_is_found_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(shard, "SEGMENTS_A_SHARD", 1)
    first = bucket_lines(tmp_path, segments())
    assert len({line["shard"] for line in first.values()}) == len(KEYS)
    again = bucket_lines(tmp_path, segments(), task={"segments": frozenset({key})}, fit=no_fit, retries=0)
    assert again == {key: first[key]}
