"""`mlflow models serve`, started for real: JSON and CSV posted to it, answers and refusals as clients see them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.champions.export import export_fleet
from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import Published
from assets.champions.serving.answer import answered
from assets.champions.serving.watch import LOG, LOG_VARIABLE, SECONDS_VARIABLE, Watch
from assets.serving.log import fold_log
from assets.serving.summary import values_served
from resources.settings import REPOSITORY_ROOT
from tests.served import KEY, Served

ASKED = [*KEY, "day"]
PROGRAMS = Path(sys.executable).parent  # MLflow looks for uvicorn on the path
NEVER_AS_CSV = {"", "null", "NULL", "None", "nan"}  # what readers of CSV take for empty; they also end a cell at NUL


@contextmanager
def serving(model: str, folder: Path, environment: dict[str, str], programs: Path = PROGRAMS) -> Iterator[str]:
    """Address of a server of a model; it is stopped afterwards, with all that it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    command = [programs / "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [*map(str, command), "--env-manager", "local"],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def post(address: str, content: bytes, type_: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(address, content, {"Content-Type": type_})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def as_split(rows: pd.DataFrame) -> bytes:
    return json.dumps({"dataframe_split": json.loads(rows.to_json(orient="split", date_format="iso"))}).encode()


def as_records(rows: pd.DataFrame) -> bytes:
    records = rows.assign(day=rows["day"].dt.strftime("%Y-%m-%d")).to_dict(orient="records")
    return json.dumps({"dataframe_records": records}).encode()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server writes what it counted."""
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def server(served: Served, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    environment = {
        "MLFLOW_TRACKING_URI": served.home.settings.tracking_uri,
        "PYTHONPATH": str(REPOSITORY_ROOT),
        LOG_VARIABLE: str(log),
        SECONDS_VARIABLE: "0.2",
    }
    with serving("models:/tiny@champion", folder, environment) as address:
        yield address


def same(answer: Any, wanted: pd.DataFrame, version: int) -> None:
    found = pd.DataFrame(answer["predictions"])
    np.testing.assert_allclose(found["forecast"], wanted["forecast"], rtol=1e-9)
    assert found["model"].tolist() == wanted["model"].tolist()
    assert set(found["version"]) == {version}


@pytest.mark.parametrize("written", [as_split, as_records])
def test_json_is_answered_as_the_batch_forecasts_are(server: str, served: Served, written: Any) -> None:
    wanted = served.forecasts.sample(frac=1, random_state=7, ignore_index=True)
    status, answer = post(server, written(wanted[ASKED]))
    assert status == 200, answer
    same(answer, wanted, served.champion.version)


def test_csv_is_answered_as_the_batch_forecasts_are(server: str, served: Served) -> None:
    lost = [name in NEVER_AS_CSV or "\0" in name or "\r" in name for name in served.forecasts["shop"]]
    wanted = served.forecasts[~np.array(lost)].reset_index(drop=True)
    assert len(wanted) > 0.9 * len(served.forecasts)
    status, answer = post(server, wanted[ASKED].to_csv(index=False).encode(), "text/csv")
    assert status == 200, answer
    same(answer, wanted, served.champion.version)


def test_csv_of_numbers_finds_the_texts_that_say_them(server: str, served: Served) -> None:
    wanted = served.forecasts[served.forecasts["shop"] == "1.0"]
    status, answer = post(server, wanted[ASKED].to_csv(index=False).encode(), "text/csv")
    assert status == 200, answer
    same(answer, wanted, served.champion.version)
    rows = wanted[ASKED].assign(shop="00")
    status, answer = post(server, rows.to_csv(index=False).encode(), "text/csv")
    assert status == 400
    assert "column 'shop': 0 may be any of '0', '00'" in answer["message"]


def test_an_empty_cell_of_a_csv_is_no_segment(server: str) -> None:
    status, answer = post(server, b"shop,store,day\nNA,1,2024-03-01\n", "text/csv")
    assert status == 400
    assert "row 1, column 'shop': is empty" in answer["message"]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (
            {"shop": "nobody", "store": 1, "day": "2024-03-01"},
            "segment shop='nobody', store='1': is none of the fleet's",
        ),
        ({"shop": "a b", "day": "2024-03-01"}, "column 'store': is missing"),
        ({"shop": "a b", "store": 1}, "column 'day': is missing"),
        (
            {"shop": "a b", "store": 1, "day": "2030-01-01"},
            "column 'day': '2030-01-01' lies outside of history and horizon",
        ),
        ({"shop": "a b", "store": 1, "day": 17}, "column 'day': 17 is no time"),
        ({"shop": "a b", "store": "x", "day": "2024-03-01"}, "column 'store': 'x' is no number"),
        (
            {"shop": "a b", "store": 1, "day": "2024-03-01", "price": "dear"},
            "row 1, column 'price': 'dear' is no number",
        ),
        ({"shop": "a b", "store": 1, "day": "2024-03-01", "prise": 2}, "column 'prise': is none of the fleet's"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_4xx(server: str, row: dict[str, Any], named: str) -> None:
    status, answer = post(server, json.dumps({"dataframe_records": [row]}).encode())
    assert status == 400
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
    assert named in answer["message"]


def test_what_is_no_table_is_refused(server: str) -> None:
    for content in (b"{", b"[]", b'{"rows": []}', b'{"instances": [1, 2]}', b'{"dataframe_split": {"data": [[1, 2]]}}'):
        status, answer = post(server, content)
        assert 400 <= status < 500, answer


def test_several_clients_at_once_get_their_own_answers(server: str, served: Served) -> None:
    from concurrent.futures import ThreadPoolExecutor

    parts = [part for _, part in served.forecasts.groupby(np.arange(len(served.forecasts)) // 13)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda part: post(server, as_records(part[ASKED])), parts))
    for (status, answer), part in zip(answers, parts, strict=True):
        assert status == 200, answer
        same(answer, part, served.champion.version)


def counted(log: Path) -> Counter[str]:
    """What the server wrote of its answers so far."""
    said = [json.loads(path.read_text()) for path in log.rglob("*.json")]
    return Counter({name: sum(each[name] for each in said) for name in ("requests", "refused", "unknown", "rows")})


def test_what_was_answered_and_refused_is_logged(server: str, served: Served, log: Path) -> None:
    time.sleep(0.5)
    before, rows = counted(log), served.forecasts[ASKED].head(7)
    assert post(server, as_records(rows))[0] == 200
    assert post(server, as_records(rows.assign(shop="nobody")))[0] == 400
    assert post(server, as_records(rows.assign(prise=1.0)))[0] == 400
    time.sleep(1)
    assert counted(log) - before == Counter(requests=3, refused=2, unknown=1, rows=7)


def test_values_that_were_served_stand_beside_the_committed_ones(own_served: Served) -> None:
    lake, tags = own_served.lake, own_served.champion.tags
    fleet = ServedFleet(Published(lake.root, tags["published"], tags["training"]))
    watch = Watch(lake.path(LOG), 1, fleet.view().question.given)
    rows = own_served.forecasts[ASKED].assign(price=2.0, weather="rain")
    for part in np.array_split(rows, 20):
        watch.timed(part, lambda part=part: answered(fleet.view(), 1, part))
    watch.flush()
    fold_log(lake, datetime.now(UTC))
    forecasts, inputs = (found.set_index("of") for found in values_served(lake))
    assert set(forecasts.index) == set(own_served.forecasts["model"])
    assert forecasts["median, committed"].notna().all()
    assert inputs.loc["price", ["p10", "median", "p90"]].tolist() == [2.0, 2.0, 2.0]
    assert 1 <= inputs.loc["price", "p10, committed"] < inputs.loc["price", "p90, committed"] <= 5
    assert inputs.loc["price", "population stability index"] > 1
    assert inputs.loc["weather", "rows"] == 0


@pytest.mark.slow
def test_a_fresh_environment_made_of_its_requirements_serves_an_export(served: Served, tmp_path: Path) -> None:
    export, fresh = tmp_path / "export", tmp_path / "environment"
    export_fleet(served.lake, served.champion, export)
    uv = shutil.which("uv") or str(REPOSITORY_ROOT / ".venv/uv/bin/uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, fresh], check=True)
    wanted = ["--python", fresh / "bin/python", "-r", export / "requirements.txt"]
    subprocess.run([uv, "pip", "install", "--quiet", *wanted], check=True)
    asked = "import importlib.util as u; print([n for n in ('assets', 'pyspark', 'dagster') if u.find_spec(n)])"
    assert subprocess.check_output([fresh / "bin/python", "-c", asked], cwd=tmp_path, text=True).strip() == "[]"
    with serving(str(export), tmp_path, {}, fresh / "bin") as address:
        status, answer = post(address, as_records(served.forecasts[ASKED]))
    assert status == 200, answer
    same(answer, served.forecasts, served.champion.version)
