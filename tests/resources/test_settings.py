"""`fleet.yaml`: every mistake at once, each with its key, its line and what to write instead."""

from pathlib import Path

import pytest

from resources.judging import metrics_of
from resources.problems import InputError
from resources.settings import CONFIG_VARIABLE, REPOSITORY_ROOT, config_path, read_settings

MINIMAL = """\
name: tiny
source: {path: data/table.parquet}
segment: shop
time: day
label: sold
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "fleet.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_settings(write(folder, text))
    return [str(problem) for problem in caught.value.problems]


def test_five_keys_suffice_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, MINIMAL))
    assert settings.segment == ["shop"]
    assert settings.source.path == str(tmp_path / "data/table.parquet")
    assert settings.lake == str(tmp_path / "data/lake")
    assert settings.horizon is None
    assert settings.columns == ["shop", "day", "sold"]
    assert settings.partitions_name == "tiny_segments"


def test_time_may_be_left_out(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, MINIMAL.replace("time: day\n", "features: {known_ahead: [size]}\n")))
    assert settings.time is None
    assert settings.columns == ["shop", "sold", "size"]


@pytest.mark.parametrize(
    "key",
    [
        "frequency: D", "horizon: 3", "features: {lags: [3]}", "features: {rolling: {windows: [2]}}",
        "features: {calendar: [month]}", "features: {past_only: [x]}", "evaluation: {holdout: 3}",
        "evaluation: {season: 7}", "forecasts: {closed_after: 2}",
    ],
)  # fmt: skip
def test_what_counts_periods_needs_time(tmp_path: Path, key: str) -> None:
    assert read_settings(write(tmp_path, MINIMAL + key)).time == "day"
    found = problems(tmp_path, MINIMAL.replace("time: day\n", "") + key)
    assert len(found) == 1
    assert found[0].startswith("fleet.yaml:5 ")
    assert "means nothing without `time` -> name the table's time column" in found[0]


def test_the_demo_configuration_is_valid() -> None:
    assert read_settings(REPOSITORY_ROOT / "fleet.yaml").name == "store_sales"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/a b/100%/#1.csv", "/a b/100%/#1.csv"),
        ("file:///a%20b/c.csv", "/a b/c.csv"),
        ("s3://bucket/a b.csv", "s3://bucket/a b.csv"),
    ],
)
def test_absolute_paths_and_uris_stay(tmp_path: Path, given: str, expected: str) -> None:
    text = MINIMAL.replace("{path: data/table.parquet}", f"{{path: '{given}'}}")
    assert read_settings(write(tmp_path, text)).source.path == expected


def test_all_problems_are_reported_at_once_with_key_line_and_remedy(tmp_path: Path) -> None:
    text = """\
name: 9 lives
source: {path: t.csv, format: xlsx}
segment: [shop, sold]
label: sold
horizn: 7
horizon: 14
features:
  lags: [7, 14, 3]
  calender: [month]
model:
  rounds: many
  params: {n_estimators: 5}
schedule: {cron: sometimes, timezone: Mars/Olympus}
frequency: fortnight
"""
    found = problems(tmp_path, text)
    expected = [
        ("fleet.yaml:1 name", "letters, digits and _"),
        ("fleet.yaml:2 source.format", "write parquet, csv, json, delta or sql"),
        ("fleet.yaml:6 horizon", "means nothing without `time`"),
        ("fleet.yaml:8 features.lags", "means nothing without `time`"),
        ("fleet.yaml:14 frequency", "means nothing without `time`"),
        ("fleet.yaml:5 horizn", "did you mean horizon?"),
        ("fleet.yaml:8 features.lags", "a lag of 7 is shorter than the horizon of 14"),
        ("fleet.yaml:8 features.lags", "a lag of 3 is shorter than the horizon of 14"),
        ("fleet.yaml:9 features.calender", "did you mean calendar?"),
        ("fleet.yaml:11 model.rounds", "valid integer, got 'many'"),
        ("fleet.yaml:12 model.params", "n_estimators (use model.rounds)"),
        ("fleet.yaml:13 schedule.cron", "five fields"),
        ("fleet.yaml:13 schedule.timezone", "IANA name"),
        ("fleet.yaml:14 frequency", "not a pandas frequency"),
        ("fleet.yaml:4 label", "column 'sold' is named 2 times (segment, label)"),
    ]
    for where, what in expected:
        assert [line for line in found if line.startswith(f"{where}:") and what in line], (where, what, found)
    assert len(found) == len(expected)
    assert all("->" in line for line in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no settings"),
        ("# only a comment\n", "holds no settings"),
        ("- a\n- b\n", "holds no settings"),
        ("name: [tiny\nsource: x", "is not YAML"),
        ("name: a\tb: c", "is not YAML"),
        (MINIMAL + "label: other\n", "fleet.yaml:6 label: is written twice"),
        (MINIMAL + "model: {seed: 1, seed: 2}\n", "fleet.yaml:6 model.seed: is written twice"),
        (MINIMAL + "1: x\n", "1: "),
        (MINIMAL.replace("label: sold\n", ""), "fleet.yaml label: is missing"),
        (MINIMAL + "horizon: true\n", "fleet.yaml:6 horizon"),
        (MINIMAL + "horizon: 0\n", "fleet.yaml:6 horizon"),
        (MINIMAL + "features: [a]\n", "fleet.yaml:6 features"),
        (MINIMAL + "features: {known_ahead: [x, x]}\n", "column 'x' is named 2 times"),
        (
            MINIMAL + "features: {past_only: day}\n",
            "column 'day' is named 2 times (time, features.past_only)",
        ),
        (MINIMAL + "frequency: -1D\n", "does not go forward"),
        (MINIMAL + "source: {options: {sep: [a]}}\n", "twice"),
        (MINIMAL.replace("segment: shop", "segment: []"), "fleet.yaml:3 segment"),
        (MINIMAL.replace("{path: data/table.parquet}", "table.parquet"), "write {path: data/sales.parquet}"),
        (
            MINIMAL + "evaluation: {metric: auc}\n",
            "auc means nothing for the objective 'regression' -> write wape or mae",
        ),
        (MINIMAL + "evaluation: {metric: pinball}\n", "fleet.yaml:6 evaluation.metric: pinball means nothing"),
        (
            MINIMAL + "model: {objective: binary}\nevaluation: {metric: rmse}\n",
            "rmse means nothing for the objective 'binary' -> write log_loss or auc, or leave it out",
        ),
        (MINIMAL + "model: {objective: binary, label_transform: log1p}\n", "a label of 0 and 1 is not transformed"),
        (MINIMAL + "promotion: {origins: 3}\n", "fleet.yaml:6 promotion.origins"),
        (MINIMAL + "promotion: {tolerance: 2}\n", "fleet.yaml:6 promotion.tolerance"),
    ],
)
def test_one_mistake(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(tmp_path, text)
    assert any(expected in line for line in found), found


@pytest.mark.parametrize(
    "text",
    [
        "model: {objective: binary}\nevaluation: {metric: auc}\n",
        "model: {objective: quantile}\nevaluation: {metric: pinball}\n",
        "model: {objective: quantile}\nevaluation: {metric: wape}\n",
        "evaluation: {metric: rmspe}\n",
    ],
)
def test_metrics_that_mean_something_for_the_objective(tmp_path: Path, text: str) -> None:
    settings = read_settings(write(tmp_path, MINIMAL + text))
    assert settings.evaluation.metric in metrics_of(settings.model.objective)


def test_a_bad_reader_option_is_one_problem_at_its_key(tmp_path: Path) -> None:
    text = MINIMAL.replace("{path: data/table.parquet}", "{path: t.csv, options: {sep: [a]}}")
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith("fleet.yaml:2 source.options.sep:")


def test_a_missing_file_and_one_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "binary.yaml")


def test_a_lake_whose_path_delta_lake_would_misread_is_refused(tmp_path: Path) -> None:
    assert "percent escape" in problems(tmp_path, MINIMAL + "lake: a%20b\n")[0]
    assert read_settings(write(tmp_path, MINIMAL + "lake: 100%\n")).lake == str(tmp_path / "100%")


SERVED = MINIMAL + "mlflow: {tracking_uri: http://there}\n"


@pytest.mark.parametrize(
    "lake", ["hdfs://host/x", "gs://bucket/x", "s3://key@bucket/x", "s3://bucket/x?region=a", "s3://"]
)
def test_a_lake_that_is_neither_a_folder_nor_a_plain_bucket_is_refused(tmp_path: Path, lake: str) -> None:
    assert f"{lake} is neither a folder nor a bucket" in problems(tmp_path, SERVED + f"lake: {lake}\n")[0]
    assert read_settings(write(tmp_path, MINIMAL + "lake: file:///a b\n")).lake == "/a b"


def test_a_lake_in_a_bucket_needs_a_server_of_mlflow(tmp_path: Path) -> None:
    assert read_settings(write(tmp_path, SERVED + "lake: s3://bucket/x\n")).lake == "s3://bucket/x"
    said = problems(tmp_path, MINIMAL + "lake: s3://bucket/x\n")[0]
    assert "mlflow.tracking_uri: is not set" in said


def test_tracking_uri_configured_before_environment_before_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings(write(tmp_path, MINIMAL)).tracking_uri == f"sqlite:///{tmp_path}/data/lake/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment")
    assert read_settings(write(tmp_path, MINIMAL)).tracking_uri == "${MLFLOW_TRACKING_URI}"
    text = MINIMAL + "mlflow: {tracking_uri: http://configured}\n"
    assert read_settings(write(tmp_path, text)).tracking_uri == "http://configured"


def test_config_path_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "mine.yaml"))
    assert config_path() == tmp_path / "mine.yaml"
    monkeypatch.delenv(CONFIG_VARIABLE)
    assert config_path() == REPOSITORY_ROOT / "fleet.yaml"


SHAPES_NOTHING = {
    "lake": "elsewhere",
    "owner": "me@example.com",
    "schedule": "{cron: '0 4 * * *'}",
    "mlflow": "{tracking_uri: 'http://there'}",
    "retention": "{keep: 2, pinned: [0, 3]}",
    "drift": "{rate: 0.01, effect: 0.5, window: 14, cooldown: 3, fleet_share: 0.5, worst: 2, retrain: false}",
    "spark": "{master: 'spark://there:7077', executor_memory: 8g, conf: {spark.sql.shuffle.partitions: 4}}",
    "gpu": "{device: gpu, per_task: 0.5, minimum_rows: 1000}",
    "dagster": "{home: there, storage: '${DAGSTER_POSTGRES_URL}', webserver: 'http://there:3000', location: other}",
    "notify": "{ui: 'http://there:3000', warnings: false, champion_age: 7, late: 5}",
}


@pytest.mark.parametrize("key", list(SHAPES_NOTHING))
def test_the_digest_stays_where_nothing_that_shapes_results_changes(tmp_path: Path, key: str) -> None:
    before = read_settings(write(tmp_path, MINIMAL)).digest
    assert read_settings(write(tmp_path, f"{MINIMAL}{key}: {SHAPES_NOTHING[key]}\n")).digest == before


def test_the_digest_is_the_same_in_every_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert read_settings(write(tmp_path, MINIMAL)).digest == read_settings(write(tmp_path / "other", MINIMAL)).digest


@pytest.mark.parametrize("line", ["model: {rounds: 3}", "horizon: 3", "checks: {gaps: 0.5}"])
def test_the_digest_changes_with_what_shapes_results(tmp_path: Path, line: str) -> None:
    changed = read_settings(write(tmp_path, f"{MINIMAL}{line}\n")).digest
    assert changed != read_settings(write(tmp_path, MINIMAL)).digest


def test_what_is_retained_is_counted(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, MINIMAL))
    assert (settings.retention.keep, settings.retention.pinned) == (8, [])
    found = problems(tmp_path, f"{MINIMAL}retention: {{keep: -1, pinned: [-2]}}\n")
    assert len(found) == 2
    assert all("write {keep: 8, pinned: [3, 7]}" in problem for problem in found)


def test_drift_is_watched_by_shares_and_periods(tmp_path: Path) -> None:
    drift = read_settings(write(tmp_path, MINIMAL)).drift
    assert (drift.rate, drift.window, drift.cooldown, drift.fleet_share, drift.worst) == (0.05, None, 7.0, 0.3, 5)
    wrong = "drift: {rate: 0, effect: -1, window: 0, cooldown: -1, fleet_share: 2, worst: -1}\n"
    found = problems(tmp_path, f"{MINIMAL}{wrong}")
    assert len(found) == 6
    assert all("write {rate: 0.05" in problem for problem in found)
