"""Runs on GPUs are known by a tag and share a pool, so that two of them never fight for the same ones."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from dagster import AssetKey

from orchestration.definitions import fleet_definitions
from orchestration.jobs import ON_GPU, RETRAIN_DRIFTED, WEEKLY_CYCLE
from resources.settings import REPOSITORY_ROOT
from tests.conftest import MakeFleet


@pytest.mark.parametrize(
    ("keys", "tag", "pool"), [({}, None, None), ({"gpu": {"device": "cuda"}}, "cuda", "fleet_gpu")]
)
def test_runs_that_train_on_a_gpu_are_tagged_and_in_a_pool(
    make_fleet: MakeFleet, keys: dict[str, Any], tag: str | None, pool: str | None
) -> None:
    fleet = make_fleet(**keys)
    made = fleet_definitions(fleet.settings)
    for job in (WEEKLY_CYCLE, RETRAIN_DRIFTED):
        assert made.resolve_job_def(job).tags.get(ON_GPU) == tag
    models = made.resolve_assets_def(AssetKey(["tiny", "segment_models"]))
    assert models.op.pool == pool


def test_the_instance_lets_one_such_run_go_at_a_time() -> None:
    limits = yaml.safe_load((REPOSITORY_ROOT / "dagster.yaml").read_text())["concurrency"]["runs"]
    assert {"key": ON_GPU, "limit": 1} in limits["tag_concurrency_limits"]
