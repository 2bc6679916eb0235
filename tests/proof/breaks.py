"""Ten ways to break the project that look harmless in review, and the step of a pull request that must catch each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Break:
    """`old` becomes `new` in `file`; then `step` must fail and print `said`."""

    name: str
    what: str
    file: str
    old: str
    new: str
    step: tuple[str, ...]
    said: str


LOSES_ROWS = """
def _newest_only(lake: Lake) -> None:
    import pyarrow.parquet as pq

    table = lake.table("features")
    rows = table.arrow().drop_columns(["fleet_bucket"])
    with table.staging() as staging:
        from pathlib import Path

        Path(staging.uri).mkdir(parents=True)
        pq.write_table(rows.slice(len(rows) // 2), f"{staging.uri}/rows.parquet")
        table.commit(staging, rows.schema, table.record())


MIGRATIONS: tuple[Migration, ...] = (Migration("keeps the newest features only", _newest_only),)
"""

BREAKS = (
    Break(
        "leak",
        "rolling statistics end at their row rather than at its origin",
        "assets/features/point_in_time.py",
        "statistics[statistic, window][own - steps[rows]]",
        "statistics[statistic, window][own]",
        ("check",),
        "features.no_leak",
    ),
    Break(
        "unit",
        "forecasts of a logarithm are not brought back to the label's unit",
        "assets/models/fit.py",
        "np.expm1(np.abs(predicted))",
        "np.abs(predicted)",
        ("test", "TESTS=tests/models/test_fit.py"),
        "FAILED tests/models/test_fit.py",
    ),
    Break(
        "gate",
        "the gate lets a fleet through that is ten times as much worse as is tolerated",
        "assets/champions/gate.py",
        "each.share >= -most",
        "each.share >= -10 * most",
        ("test", "TESTS=tests/champions/test_gate.py"),
        "FAILED tests/champions/test_gate.py",
    ),
    Break(
        "default",
        "half of the segments may fail before a promotion is refused",
        "resources/judging.py",
        "tolerated: Share = 0.05",
        "tolerated: Share = 0.5",
        ("test", "TESTS=tests/resources/test_schema.py"),
        "fleet.yaml's settings changed",
    ),
    Break(
        "dropped check",
        "nobody looks for repeated keys any more",
        "assets/features/checks.py",
        "whole = [schema, unique, no_leak,",
        "whole = [schema, no_leak,",
        ("check",),
        "the check features.unique was dropped",
    ),
    Break(
        "renamed column",
        "a feature is called by a name that the table does not have",
        "fleet.yaml",
        "known_ahead: [price,",
        "known_ahead: [unit_price,",
        ("validate",),
        "unit_price",
    ),
    Break(
        "worse model",
        "fits stop after a twentieth of their trees",
        "assets/models/fit.py",
        "for _ in range(rounds):",
        "for _ in range(rounds // 20):",
        ("check",),
        "worse than accepted: wape of challenger is",
    ),
    Break(
        "secret in a log",
        "a run prints the address that it reads from",
        "assets/raw/fetch.py",
        "    engine = _engine(source.path)\n",
        '    print(f"reading from {resolved(source.path, WHERE)}")\n    engine = _engine(source.path)\n',
        ("test-slow", "TESTS=tests/orchestration/test_secrets.py"),
        "SOURCE_PASSWORD",
    ),
    Break(
        "broken workflow",
        "the check is no step any more, by a slip of the pen",
        ".github/workflows/pull-request.yml",
        "      - run: make check\n",
        "      - runs: make check\n",
        ("lint",),
        "step must run script",
    ),
    Break(
        "migration that loses rows",
        "a migration keeps the newer half of the features",
        "orchestration/deployment/migrations.py",
        "MIGRATIONS: tuple[Migration, ...] = ()\n",
        LOSES_ROWS,
        ("test", "TESTS=tests/orchestration/test_deployments.py"),
        "loses rows of features",
    ),
)
