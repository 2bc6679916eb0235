"""A version that waits for a person, and versions that come back: who may serve when, and what is said of it."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.champions import approval
from assets.champions.approval import EXPIRES_AT, approve, expire, reject
from assets.champions.history import versions_table
from assets.champions.promotion import PENDING, PROMOTED, UNCHANGED, promote
from assets.champions.registry import Word
from assets.champions.rollback import roll_back, unpin
from assets.evaluation.incumbent import CHAMPIONS, listing_digest, published_champion, standing, whole_champion
from resources.judging import Promotion
from resources.mlflow import CHALLENGER, CHAMPION, Mlflow
from resources.problems import InputError
from resources.pruned import record_pruned
from tests.champions.killed import dying_at
from tests.champions.test_publish import YES, judged, mlflow, publish, serving
from tests.lakes import Trained

__all__ = ["mlflow"]
MANUAL = Promotion(mode="manual")
ANN = Word("Ann", "looks right")


def wait(made: Trained, mlflow: Mlflow, rounds: int) -> str:
    """A version of so many trees that waits; gives its number."""
    outcome = promote(made.home.lake, mlflow, MANUAL, judged(made, rounds), YES)
    assert outcome.what == PENDING
    waiting = mlflow.aliased(CHALLENGER)
    assert waiting is not None
    assert waiting["status"] == "pending"
    return waiting["version"]


def status(mlflow: Mlflow, version: str) -> str:
    return (mlflow.version(version) or {})["status"]


def alias(mlflow: Mlflow, name: str = CHAMPION) -> str | None:
    return (mlflow.aliased(name) or {}).get("version")


def test_a_version_waits_serves_nobody_and_is_approved_by_a_person(own: Trained, mlflow: Mlflow) -> None:
    publish(own, mlflow)
    version = wait(own, mlflow, 10)
    assert (version, alias(mlflow)) == ("2", "1")
    assert promote(own.home.lake, mlflow, MANUAL, judged(own, 10), YES).what == PENDING
    assert len(mlflow.versions()) == 2
    assert approve(own.home.lake, mlflow, 2, ANN) == "2"
    tags = mlflow.version("2") or {}
    assert (tags["status"], tags["approved_by"], tags["approved_note"], tags["replaces"]) == (
        "approved", "Ann", "looks right", "1",
    )  # fmt: skip
    assert tags["approved_at"].startswith("20")
    assert (alias(mlflow), alias(mlflow, "previous"), alias(mlflow, CHALLENGER)) == ("2", "1", None)
    shown = versions_table(mlflow)
    assert shown[["version", "alias", "status", "by", "note"]].to_numpy().tolist() == [
        ["2", "champion", "approved", "Ann", "looks right"],
        ["1", "previous", "approved", "gate", "it is not worse"],
    ]
    assert promote(own.home.lake, mlflow, MANUAL, judged(own, 10), YES).what == UNCHANGED


def test_a_rejected_version_never_serves_not_even_by_hand(own: Trained, mlflow: Mlflow) -> None:
    publish(own, mlflow)
    wait(own, mlflow, 10)
    reject(mlflow, None, Word("Ann", "not this one"))
    assert (status(mlflow, "2"), alias(mlflow), alias(mlflow, CHALLENGER)) == ("rejected", "1", None)
    outcome = promote(own.home.lake, mlflow, Promotion(), judged(own, 10), YES)
    assert (outcome.what, outcome.reasons) == ("rejected", ("version 2 was rejected by Ann: not this one",))
    mlflow.client().set_registered_model_alias("tiny", CHAMPION, "2")
    stands = standing(own.home.lake, mlflow)
    assert stands.champion is not None
    assert (stands.champion.version, stands.problems) == (1, ("version 2 is rejected: it was never approved",))
    for word in (approve, lambda *a: roll_back(a[0], a[1], ANN, 2)):
        with pytest.raises(InputError, match="version 2"):
            word(own.home.lake, mlflow, 2, ANN)


def test_a_word_that_died_on_the_way_is_said_again(
    own: Trained, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(own, mlflow)
    wait(own, mlflow, 10)
    for number, word in ((2, lambda: reject(mlflow, 2, ANN)), (3, lambda: approve(own.home.lake, mlflow, 3, ANN))):
        if number == 3:
            wait(own, mlflow, 12)
        for step in range(1, 20):
            with monkeypatch.context() as patched:
                said = dying_at(patched, step)(word)
            if said is not None:
                break
        assert said is not None
        assert step > 4, "it died in between"
    assert (status(mlflow, "2"), status(mlflow, "3")) == ("rejected", "approved")
    assert (alias(mlflow), alias(mlflow, "previous"), alias(mlflow, CHALLENGER)) == ("3", "1", None)
    assert "served_since" in (mlflow.version("3") or {})


def test_a_version_expires(own: Trained, mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    version = wait(own, mlflow, 10)
    assert expire(mlflow) is None
    mlflow.client().set_model_version_tag("tiny", version, EXPIRES_AT, "2020-01-01T00:00:00+00:00")
    with pytest.raises(InputError, match=r"version 1: does not wait for approval: it is expired by fleet"):
        approve(own.home.lake, mlflow, 1, ANN)
    assert published_champion(own.home.lake, mlflow) is None
    assert promote(own.home.lake, mlflow, MANUAL, judged(own, 10), YES).what == "expired"
    assert approval.expiry(1.5)[EXPIRES_AT] > approval.expiry(1)[EXPIRES_AT]


def test_of_two_that_wait_the_newer_counts(own: Trained, mlflow: Mlflow) -> None:
    wait(own, mlflow, 30)
    wait(own, mlflow, 10)
    assert [status(mlflow, version) for version in ("1", "2")] == ["superseded", "pending"]
    with pytest.raises(InputError, match=r"version 1: does not wait .* it is superseded.* -> version 2 waits"):
        approve(own.home.lake, mlflow, 1, ANN)
    approve(own.home.lake, mlflow, None, ANN)
    with pytest.raises(InputError, match="version 2: does not wait for approval: it is approved by Ann"):
        approve(own.home.lake, mlflow, 2, ANN)
    assert alias(mlflow) == "2"


def test_one_that_was_compared_with_another_champion_is_not_approved(own: Trained, mlflow: Mlflow) -> None:
    publish(own, mlflow, 30)
    publish(own, mlflow, 20)
    wait(own, mlflow, 10)
    roll_back(own.home.lake, mlflow, ANN)
    with pytest.raises(InputError, match="version 3: was compared with version 2, and version 1 serves now"):
        approve(own.home.lake, mlflow, 3, ANN)
    assert (alias(mlflow), status(mlflow, "3")) == ("1", "superseded")


@pytest.mark.parametrize("number", [None, 7])
def test_nothing_to_approve(own: Trained, mlflow: Mlflow, number: int | None) -> None:
    publish(own, mlflow)
    with pytest.raises(InputError, match="is not registered -> no version waits"):
        approve(own.home.lake, mlflow, number, ANN)
    with pytest.raises(InputError, match="by: nobody is named"):
        reject(mlflow, number, Word(" "))


def test_the_fleet_goes_back_and_forward(own: Trained, mlflow: Mlflow) -> None:
    first, second = publish(own, mlflow, 30), publish(own, mlflow, 10)
    done = roll_back(own.home.lake, mlflow, Word("Bob", "too many complaints"))
    assert dataclasses.astuple(done) == ("2", "1", (), "1")
    assert listing_digest(serving(own, mlflow).listing) == listing_digest(first.listing)
    tags = mlflow.version("2") or {}
    assert (tags["status"], tags["withdrawn_by"], tags["withdrawn_note"]) == ("withdrawn", "Bob", "too many complaints")
    assert (alias(mlflow), alias(mlflow, "previous")) == ("1", "2")
    # the gate would let it through again: a person has said no
    outcome = promote(own.home.lake, mlflow, Promotion(), judged(own, 10), YES)
    assert (outcome.what, alias(mlflow)) == ("withdrawn", "1")
    roll_back(own.home.lake, mlflow, ANN, 2)
    found = serving(own, mlflow)
    assert (found.version, found.tags["status"], found.tags["replaces"]) == (2, "approved", "1")
    assert listing_digest(found.listing) == listing_digest(second.listing)
    assert len(mlflow.versions()) == 2


def test_segments_go_back_and_forward(own: Trained, mlflow: Mlflow) -> None:
    first, second = publish(own, mlflow, 30), publish(own, mlflow, 10)
    done = roll_back(own.home.lake, mlflow, ANN, 1, ["shop 1", "shop 0", "shop 1"])
    assert dataclasses.astuple(done) == ("2", "1", ("shop 1", "shop 0"), "3")
    found = serving(own, mlflow)
    trainings = dict(zip(found.listing["segment"].to_pylist(), found.listing["training"].to_pylist(), strict=True))
    assert trainings["shop 0"] == trainings["shop 1"] == first.trainings[0]
    assert trainings["shop 2"] == second.trainings[0]
    assert len(trainings) == 7
    # the same data again changes nothing
    assert promote(own.home.lake, mlflow, Promotion(), judged(own, 10), YES).what == UNCHANGED
    roll_back(own.home.lake, mlflow, ANN, 2, ["shop 0", "shop 1"])
    assert alias(mlflow) == "2"
    assert len(mlflow.versions()) == 3


def test_a_pinned_segment_stays_through_a_promotion(own: Trained, mlflow: Mlflow) -> None:
    first, _ = publish(own, mlflow, 30), publish(own, mlflow, 20)
    roll_back(own.home.lake, mlflow, ANN, 1, ["shop 1"], date(2999, 1, 1))
    third = publish(own, mlflow, 10)
    rows = {row["segment"]: row for row in third.listing.to_pylist()}
    assert (rows["shop 1"]["training"], rows["shop 1"]["outcome"]) == (first.trainings[0], "pinned")
    assert rows["shop 1"]["outcome_reason"] == "pinned until 2999-01-01"
    assert rows["shop 0"]["outcome"] == "promoted"
    assert "1 segments pinned" in mlflow.client().get_model_version("tiny", str(third.version)).description
    unpin(own.home.lake, mlflow, ANN, ["shop 1"])
    assert set(publish(own, mlflow, 15).listing["outcome"].to_pylist()) == {"promoted"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"to": 9}, "version 9: is not registered -> registered: 2, 1"),
        ({"to": 2}, "version 2: serves already"),
        ({"segments": ["shop 11"]}, "shop 11: is no segment of version 1 -> did you mean"),
        ({"pin_until": date(2999, 1, 1)}, "a pin is for segments"),
        ({"segments": ["shop 1"], "pin_until": date(2020, 1, 1)}, "2020-01-01 is over"),
        ({"word": Word("")}, "by: nobody is named who rolls back"),
    ],
)
def test_a_rollback_that_cannot_be(own: Trained, mlflow: Mlflow, keys: dict[str, Any], said: str) -> None:
    publish(own, mlflow, 30)
    publish(own, mlflow, 10)
    with pytest.raises(InputError, match=said):
        roll_back(own.home.lake, mlflow, **{"word": ANN, **keys})
    assert alias(mlflow) == "2"
    assert len(mlflow.versions()) == 2


def test_a_rollback_with_nothing_before(own: Trained, mlflow: Mlflow) -> None:
    with pytest.raises(InputError, match="has no champion yet"):
        roll_back(own.home.lake, mlflow, ANN)
    publish(own, mlflow)
    with pytest.raises(InputError, match="version 1 replaced no other -> name a version with --to: 1"):
        roll_back(own.home.lake, mlflow, ANN)


def test_a_rollback_to_what_retention_removed_says_when(own: Trained, mlflow: Mlflow) -> None:
    first = publish(own, mlflow, 30)
    publish(own, mlflow, 10)
    table = own.home.lake.table(CHAMPIONS)
    with table.staging() as staging:
        table.commit(staging, table.schema(), {}, mode="append", partition_by=["published"], files=[],
                     replacing=[first.tags["published"]])  # fmt: skip
    record_pruned(own.home.lake, {CHAMPIONS: [first.tags["published"]]}, "2026-01-02")
    with pytest.raises(InputError, match=r"champion 1: .* was pruned on 2026-01-02"):
        roll_back(own.home.lake, mlflow, ANN)
    assert alias(mlflow) == "2"


def test_an_alias_moved_by_hand_is_a_rollback(own: Trained, mlflow: Mlflow) -> None:
    publish(own, mlflow, 30)
    publish(own, mlflow, 10)
    mlflow.client().set_registered_model_alias("tiny", CHAMPION, "1")
    outcome = promote(own.home.lake, mlflow, Promotion(), judged(own, 10), YES)
    assert (outcome.what, alias(mlflow)) == ("withdrawn", "1")
    assert "moved to version 1 by hand" in outcome.reasons[0]
    assert promote(own.home.lake, mlflow, Promotion(), judged(own, 12), YES).what == PROMOTED


def test_an_alias_moved_to_a_strangers_model_serves_what_served_before(own: Trained, mlflow: Mlflow) -> None:
    publish(own, mlflow, 30)
    publish(own, mlflow, 10)
    client = mlflow.client()
    client.create_model_version("tiny", "file:///nowhere", None)
    client.set_registered_model_alias("tiny", CHAMPION, "3")
    stands = standing(own.home.lake, mlflow)
    assert stands.champion is not None
    assert stands.champion.version == 2
    assert stands.problems == ("version 3 was not registered by this fleet",)


@pytest.mark.parametrize("harm", ["cut", "empty", "no parquet", "another model"])
def test_a_file_that_is_not_as_it_was_written_is_set_aside(own: Trained, mlflow: Mlflow, harm: str) -> None:
    first, second = publish(own, mlflow, 30), publish(own, mlflow, 10)
    before = set(first.listing["shard"].drop_null().to_pylist())
    (shard, *_) = sorted(set(second.listing["shard"].drop_null().to_pylist()) - before)
    file, lake = own.home.folder / "lake" / shard, own.home.lake
    assert whole_champion(lake, mlflow) == standing(lake, mlflow).champion
    content = file.read_bytes()
    if harm == "another model":
        rows = pq.read_table(file)
        models = rows["served"].to_pylist()
        swapped = pa.array([first_model[:-1] + b"x" for first_model in models], pa.binary())
        pq.write_table(rows.set_column(rows.column_names.index("served"), "served", swapped), file)
    else:
        file.write_bytes({"cut": content[:-100], "empty": b"", "no parquet": b"x" * len(content)}[harm])
    found = whole_champion(lake, mlflow)
    assert found is not None
    assert found.version == 1
    assert not file.exists()
    assert (own.home.folder / "lake" / "corrupt" / shard).exists()
