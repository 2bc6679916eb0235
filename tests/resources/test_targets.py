"""Targets: laid over the document in depth, private to a user in `dev`, and mistaken where they are written."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.problems import InputError
from resources.settings import TARGET_VARIABLE, Settings, read_settings
from resources.targets import merged_in_depth

TEXT = """\
name: tiny
source: {path: data/table.parquet, options: {a: 1}}
segment: shop
time: day
label: sold
lake: data/lake
mlflow: {tracking_uri: 'http://shared'}
promotion: {margin: 0.1, tolerance: 0.1}
targets:
  dev:
  loud: {schedule: {enabled: true}}
  prod:
    lake: /srv/${FLEET_SHELF}
    promotion:
      margin: 0.3
    mlflow: {tracking_uri: null}
    dagster: {home: /srv/dagster, storage: '${DAGSTER_POSTGRES_URL}'}
"""
VALUES = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann b.")
    monkeypatch.setenv("FLEET_SHELF", "shelf")
    (tmp_path / "fleet.yaml").write_text(TEXT)
    return tmp_path / "fleet.yaml"


def problems(file: Path, target: str | None, text: str = TEXT) -> list[str]:
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_settings(file, target)
    return [str(problem) for problem in caught.value.problems]


def test_without_a_target_the_document_is_as_it_stands(file: Path) -> None:
    settings = read_settings(file)
    assert (settings.name, settings.lake) == ("tiny", str(file.parent / "data/lake"))
    assert settings.schedule.enabled
    without = file.with_name("plain.yaml")
    without.write_text(TEXT[: TEXT.index("targets:")])
    assert read_settings(without) == settings


def test_a_target_is_laid_over_the_document_in_depth(file: Path) -> None:
    prod = read_settings(file, "prod")
    assert (prod.lake, prod.name) == ("/srv/shelf", "tiny")
    assert (prod.promotion.margin, prod.promotion.tolerance) == (0.3, 0.1)
    assert prod.mlflow.tracking_uri is None
    assert (prod.dagster.home, prod.dagster.storage) == ("/srv/dagster", "${DAGSTER_POSTGRES_URL}")


def test_the_environment_chooses_a_target_and_an_argument_goes_first(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TARGET_VARIABLE, "prod")
    assert read_settings(file).lake == "/srv/shelf"
    assert read_settings(file, "loud").lake == str(file.parent / "data/lake")
    assert read_settings(file, "").lake == str(file.parent / "data/lake")


def watches(settings: Settings) -> tuple[bool, bool, bool]:
    return settings.schedule.enabled, settings.drift.retrain, settings.source.watch


def test_dev_is_a_users_own_and_does_nothing_unasked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = read_settings(file, "dev")
    assert (ann.name, ann.lake) == ("ann_b_tiny", str(file.parent / "data/ann_b_lake"))
    assert watches(ann) == (False, False, False)
    monkeypatch.setattr(getpass, "getuser", lambda: "bob")
    bob = read_settings(file, "dev")
    # nothing that is named in a store that both may use is the same: assets, partitions, experiment, registered model
    assert {bob.name, bob.lake, bob.partitions_name}.isdisjoint({ann.name, ann.lake, ann.partitions_name})


@pytest.mark.parametrize(
    ("dev", "name", "lake", "enabled"),
    [
        ("{lake: mine, schedule: {enabled: true}}", "ann_b_tiny", "mine", True),
        ("{name: ours}", "ours", "data/ann_b_lake", False),
        ("{lake: null}", "ann_b_tiny", "data/lake", False),
    ],
)
def test_what_dev_says_itself_goes_first(file: Path, dev: str, name: str, lake: str, enabled: bool) -> None:
    file.write_text(TEXT.replace("  dev:\n", f"  dev: {dev}\n"))
    found = read_settings(file, "dev")
    assert (found.name, found.lake) == (name, str(file.parent / lake))
    assert found.schedule.enabled == enabled


def test_a_lake_of_the_environment_is_a_users_own_too(file: Path) -> None:
    file.write_text(TEXT.replace("lake: data/lake", "lake: ${FLEET_SHELF}"))
    assert read_settings(file, "dev").lake == str(file.parent / "shelf_ann_b")


@pytest.mark.parametrize(
    ("target", "changed", "said"),
    [
        ("prot", ("", ""), "target prot: is none of fleet.yaml -> did you mean prod?"),
        ("moon", ("", ""), "known targets: dev, loud, prod"),
        ("prod", ("margin: 0.3", "margn: 0.3"), "fleet.yaml:15 targets.prod.promotion.margn: unknown key"),
        ("prod", ("margin: 0.3", "margin: 3"), "fleet.yaml:15 targets.prod.promotion.margin: input should be"),
        ("prod", ("tolerance: 0.1", "tolerance: high"), "fleet.yaml:8 promotion.tolerance"),
        ("prod", ("lake: /srv/${FLEET_SHELF}", "label: null"), "fleet.yaml:13 targets.prod.label: is missing"),
        ("prod", ("storage: '${DAGSTER_POSTGRES_URL}'", "storage: 'x${DB}'"), "one reference such as"),
        ("prod", ("home: /srv/dagster, ", ""), "there is no home"),
        ("prod", ("${FLEET_SHELF}", "${NO_SUCH_SHELF}"), "${NO_SUCH_SHELF} is not in the environment"),
        (None, ("  dev:\n", "  dev: 3\n"), "fleet.yaml:10 targets.dev: is no mapping, got 3"),
        (None, ("  dev:\n", "  dev: {targets: {}}\n"), "fleet.yaml:10 targets.dev.targets: has no targets"),
        (None, ("targets:\n", "target:\n"), "fleet.yaml:9 target: unknown key -> did you mean targets?"),
    ],
)
def test_mistakes_are_named_where_they_are_written(
    file: Path, target: str | None, changed: tuple[str, str], said: str
) -> None:
    found = problems(file, target, TEXT.replace(*changed))
    assert [problem for problem in found if said in problem], found


def test_no_targets_and_one_is_asked_for(file: Path) -> None:
    found = problems(file, "prod", TEXT[: TEXT.index("targets:")])
    assert found == ["target prod: fleet.yaml has no targets -> write targets: {dev: {}, prod: {lake: /srv/fleet}}"]


@given(DOCUMENTS, DOCUMENTS)
def test_a_merge_has_all_that_is_laid_over_and_what_it_does_not_touch(
    under: dict[str, Any], over: dict[str, Any]
) -> None:
    merged = merged_in_depth(under, over)
    assert set(merged) == set(under) | set(over)
    assert merged_in_depth(merged, over) == merged
    assert merged_in_depth({}, under) == under == merged_in_depth(under, {})
    for key, value in over.items():
        below = under.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        assert merged[key] == (merged_in_depth(below, value) if both else value)
