"""A real MLflow server as the registry, which goes away; and two runs that want to promote at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets.champions.promotion import PROMOTED, promote
from assets.evaluation.incumbent import published_champion
from resources.judging import Promotion
from resources.mlflow import Mlflow
from resources.settings import REPOSITORY_ROOT
from tests.champions.killed import Killed, counting
from tests.champions.test_publish import YES, in_run, judged
from tests.cycle import give_store
from tests.lakes import Trained
from tests.mlflow_server import Server


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.kill()


@pytest.mark.slow
def test_a_server_that_goes_away_at_any_step_leaves_nothing_half_done(
    own: Trained, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    mlflow = in_run(Mlflow(tracking_uri=server.uri, experiment="tiny"), "run-1")
    lake, first, second = own.home.lake, judged(own, 30), judged(own, 10)
    assert promote(lake, mlflow, Promotion(), first, YES).what == PROMOTED
    for step in (6, 10):
        with monkeypatch.context() as patched:
            counting(patched.setattr, step, server.kill)
            with pytest.raises(Exception, match=r"127\.0\.0\.1") as error:
                promote(lake, mlflow, Promotion(), second, YES)
            assert not isinstance(error.value, Killed)
        server.start()
        found = published_champion(lake, mlflow)
        assert found is not None
        assert found.tags["evaluation"] in (first.digest, second.digest)
        assert len(found.listing) == 7
    promote(lake, mlflow, Promotion(), second, YES)
    found = published_champion(lake, mlflow)
    assert found is not None
    assert (found.version, found.tags["evaluation"]) == (2, second.digest)
    version = mlflow.client().get_model_version("tiny", "2")
    assert version.run_id in version.description
    assert f"run: {server.uri}/#/experiments/" in version.description
    assert [a.path for a in mlflow.client().list_artifacts(version.run_id, "champion")]
    mlflow.end_run("FINISHED")


@pytest.mark.slow
def test_of_two_runs_that_promote_at_once_one_waits(own: Trained, tmp_path: Path) -> None:
    give_store(own.home)
    judged(own, 30)
    command = [sys.executable, "-m", "tests.champions.promoting", str(own.home.folder / "fleet.yaml"), str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY_ROOT, text=True) for _ in range(2)]
    said = [run.communicate(timeout=300)[0] for run in runs]
    inside = sorted(
        tuple(map(float, line.split()[1:])) for out in said for line in out.splitlines() if "inside" in line
    )
    assert [run.returncode for run in runs] == [0, 0]
    (_, first_end), (second_start, _) = inside
    assert second_start >= first_end
    assert len(own.home.mlflow.versions()) == 1
