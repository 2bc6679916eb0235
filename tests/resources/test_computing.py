"""Where the work is done: what `spark` and `gpu` may say, discovery scripts, and what reaches a cluster's workers."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from deploy.cluster import discovery_script, free_port
from resources import cluster, workers
from resources.cluster import driver_address, given_variables, packed_code, require_master
from resources.discovery import discovered
from resources.problems import InputError, Problem
from resources.settings import read_settings
from resources.spark import Spark

MINIMAL = "name: tiny\nsource: {path: t.parquet}\nsegment: shop\nlabel: sold\n"
CLUSTER = "master: 'spark://there:7077'"


def problems(folder: Path, text: str) -> str:
    (folder / "fleet.yaml").write_text(MINIMAL + text)
    with pytest.raises(InputError) as caught:
        read_settings(folder / "fleet.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spark: {master: there}", "'there' is no master"),
        ("spark: {master: 'sc://there'}", "Spark Connect, which has no accumulators"),
        ("spark: {memory: 4 gigabytes}", "write a number with m, g or t"),
        ("spark: {executor_memory: 4g}", "spark.executor_memory: means nothing without a cluster"),
        ("spark: {cores: 2}\ngpu: {per_executor: 2}", "gpu.per_executor: means nothing without a cluster"),
        (f"spark: {{{CLUSTER}, python: /p, environment: e.tar.gz}}", "cannot use both this interpreter"),
        (f"spark: {{{CLUSTER}, environment: packed.tar}}", "'packed.tar' is no .tar.gz"),
        (f"spark: {{{CLUSTER}, conf: {{spark.executor.cores: 2}}}}", "spark.executor.cores (use spark.cores)"),
        (f"spark: {{{CLUSTER}, conf: {{executor.cores: 2}}}}", "Spark's own keys begin with"),
        (f"spark: {{{CLUSTER}, variables: [A=b]}}", "write its name, not its value"),
        ("gpu: {device: rocm}", "write cpu, gpu (OpenCL) or cuda"),
        ("gpu: {per_task: 1.5}", "1.5 of a GPU cannot be given to a task"),
        ("gpu: {per_task: 0}", "0 of a GPU cannot be given to a task"),
        ("gpu: {minimum_rows: 0}", "0 is no number of rows"),
        ("gpu: {minimum_rows: some}", "'some' is no number of rows"),
        ("model: {params: {device_type: gpu}}", "device_type (use the section gpu)"),
    ],
)
def test_what_cannot_be_is_refused_with_its_remedy(tmp_path: Path, text: str, said: str) -> None:
    found = problems(tmp_path, text)
    assert said in found
    assert len(found.splitlines()) == (2 if "cores: 2}\n" in text else 1)


def test_a_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    found = problems(tmp_path, "spark: {conf: {spark.hadoop.fs.s3a.secret.key: swordfish}}")
    assert "is a secret" in found
    assert "swordfish" not in found


def test_the_session_is_asked_for_what_fleet_yaml_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_KEY", "swordfish")
    text = f"""spark: {{{CLUSTER}, executor_memory: 8g, cores: 4, executors: 3, environment: env.tar.gz, packages: [a:b:1],
    variables: [THEIR_KEY], ui: true, conf: {{spark.speculation: true}}}}
gpu: {{device: gpu, per_executor: 2, discovery_script: /opt/gpus.sh}}
"""
    (tmp_path / "fleet.yaml").write_text(MINIMAL + text)
    asked = Spark.of(read_settings(tmp_path / "fleet.yaml"))
    wanted = {
        "spark.master": "spark://there:7077", "spark.executor.memory": "8g", "spark.executor.cores": "4",
        "spark.executor.instances": "3", "spark.archives": f"{tmp_path}/env.tar.gz#environment",
        "spark.jars.packages": "a:b:1", "spark.executorEnv.THEIR_KEY": "swordfish", "spark.ui.enabled": "true",
        "spark.speculation": "true", "spark.executor.resource.gpu.amount": "2",
        "spark.executor.resource.gpu.discoveryScript": "/opt/gpus.sh",
    }  # fmt: skip
    assert wanted.items() <= asked._settings().items()
    assert asked._workers_python() == "./environment/bin/python"
    assert "spark.driver.host" not in asked._settings(), "nothing answers there"
    assert Spark.of(read_settings(tmp_path / "fleet.yaml")).lake == str(tmp_path / "data" / "lake")
    assert Spark()._settings()["spark.driver.host"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "failed with exit code 3"),
        ("echo hello", "printed 'hello"),
        ("""echo '{"name": "gpu", "addresses": []}'""", "offers no GPU"),
        ("""echo '{"name": "fpga", "addresses": ["0"]}'""", "offers no GPU"),
        ("""echo '{"name": "gpu", "addresses": ["GPU-1a"]}'""", "no numbers"),
        ("""echo '["0"]'""", "printed"),
    ],
)
def test_a_discovery_script_that_offers_nothing_is_refused(tmp_path: Path, script: str, said: str) -> None:
    path = tmp_path / "gpus.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    with pytest.raises(InputError, match=said):
        discovered(str(path))


def test_a_discovery_script_names_the_gpus(tmp_path: Path) -> None:
    assert discovered(str(discovery_script(tmp_path, ["1", "0"]))) == ("1", "0")
    assert discovered(None) == ("0",)
    with pytest.raises(InputError, match="cannot be run"):
        discovered(str(tmp_path / "none.sh"))
    with pytest.raises(InputError, match="cannot be run"):
        Spark(master="local[1]", gpus=1, discovery_script=str(tmp_path / "none.sh")).session()


def test_a_cluster_that_does_not_answer_is_named_at_once() -> None:
    with pytest.raises(InputError, match="cannot be reached from this machine"):
        require_master(f"spark://127.0.0.1:{free_port()}")
    require_master("yarn")


def test_workers_find_the_driver_by_the_address_that_reaches_the_master() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as master:
        found = driver_address(f"spark://127.0.0.1:{master.getsockname()[1]}")
    assert found == {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    assert driver_address("k8s://https://there:6443") == {}


def test_variables_that_are_not_set_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "1")
    with pytest.raises(InputError, match="ABSENT_ONE, ABSENT_TWO"):
        dict(given_variables(["ABSENT_ONE", "THERE", "ABSENT_TWO"]))


def test_the_code_that_workers_get_is_named_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("assets", "resources"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text("one = 1")
    (tmp_path / "assets" / "data.csv").write_text("1")
    monkeypatch.setattr(cluster, "REPOSITORY_ROOT", tmp_path)
    first = packed_code()
    assert zipfile.ZipFile(first).namelist() == ["assets/own.py", "resources/own.py"]
    assert packed_code() == first
    (tmp_path / "assets" / "own.py").write_text("one = 2")
    assert packed_code() != first
    assert zipfile.ZipFile(packed_code()).read("assets/own.py") == b"one = 2"


def test_unfit_workers_are_named_with_what_they_lack() -> None:
    fit = {"host": "a", "unseen": [], "missing": [], "versions": workers.versions(), "address": "0"}
    shown = {"/lake/probe": "the lake /lake", "/in/t.csv": "the table /in/t.csv"}
    assert not list(workers._problems(fit, shown))
    assert not list(workers._of_gpu(fit))
    other = fit | {"unseen": ["/lake/probe", "/in/t.csv"], "versions": {**workers.versions(), "LightGBM": "3.3.2"}}
    said = " ".join(str(problem) for problem in workers._problems(other, shown))
    assert "worker a: has LightGBM 3.3.2" in said
    assert "worker a: does not see the lake /lake" in said
    assert "worker a: does not see the table /in/t.csv" in said
    assert "lacks dagster" in str(next(workers._problems(fit | {"missing": ["dagster"]}, shown)))
    assert "offers the GPU address 'GPU-1a'" in str(next(workers._of_gpu(fit | {"address": "GPU-1a"})))
    with pytest.raises(InputError, match="has Python"):
        workers.require_versions({**workers.versions(), "Python": "2.7"})


@pytest.mark.parametrize("sign", ["PYTHON_VERSION_MISMATCH", "Cannot run program", "ModuleNotFoundError"])
def test_a_probe_that_cannot_be_run_says_why(sign: str) -> None:
    found = workers._of_failure(f"a\n {sign}: something\nb")
    assert isinstance(found, Problem)
    assert f"{sign}: something" in found.what
