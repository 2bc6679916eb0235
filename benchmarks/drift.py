"""False alarms on quiet tables and what is found of changes, beside Evidently's preset with its defaults.

The code is the one of the asset: windows of each segment, the null of the fleet's quiet weeks, Simes,
Benjamini-Hochberg, the effect threshold. A week's champion is trained on all that came before it. Each row is printed
and kept as JSON as soon as it is measured, and what the file has is not measured again: go on by the same command.
Tables in Markdown come last.
Run: .venv/bin/python -m benchmarks.drift [--json drift.json] [--weeks 40] [--repeat 10] [--real folder] [--evidently 5]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from assets.drift.judgement import Judgement, judge
from assets.drift.look import HALF
from assets.drift.plan import default_window
from assets.drift.season import Seasons
from assets.drift.windows import MOST_PAST, Plan, compared
from benchmarks import drift_cases as cases
from benchmarks.drift_cases import FIRST, Change, Made
from resources.monitoring import Drift

DRIFT = Drift()
Row = dict[str, object]
Tasks = dict[str, Callable[[], Row]]  # by what they measure
SEGMENTS, FEATURES, REFERENCE = 200, 4, 730
CHANGED = 10  # segments of a fleet
Setting = tuple[str, str, Change, tuple[float, ...]]
LABEL = "label alone, standard deviations"
SETTINGS: list[Setting] = [
    ("mean, standard deviations", "AR(1) 0.6", cases.mean_shift, (0.5, 1, 2, 3, 5)),
    ("mean, standard deviations", "AR(1) 0.8", cases.mean_shift, (0.5, 1, 2, 3, 5)),
    ("standard deviation, times", "AR(1) 0.6", cases.wider, (1.5, 2, 3, 5)),
    ("new category, share", "categories, AR(1) 0.8, a tenth empty", cases.new_category, (0.1, 0.3, 0.6, 1)),
    ("empty cells, share", "AR(1) 0.6", cases.emptied, (0.1, 0.3, 0.6, 1)),
    (LABEL, "AR(1) 0.6", cases.mean_shift, (0.5, 1, 2, 3, 5)),
]


def look(made: Made, last: int, window: int) -> Judgement:
    """The verdict on the `window` rows up to place `last`, by a champion trained on all before them."""
    periods = made.periods if made.periods is not None else np.arange(made.values.shape[2]) + FIRST
    seasons, end = Seasons.of(made.frequency), periods[last]
    plan = Plan(int(end - window), int(end - window), int(end))
    statistics, effects = [], []
    for values in made.values:
        own = np.flatnonzero(np.isfinite(values[0]) & (np.arange(len(periods)) <= last))
        found = compared(values[:, own], made.categories, periods[own], plan, seasons)
        statistics.append(found.statistics.reshape(-1, MOST_PAST + 1))
        effects.append(found.effects.ravel())
    cohorts = np.zeros(len(statistics), dtype=np.int64)
    return judge(np.stack(statistics), np.stack(effects), cohorts, HALF * DRIFT.rate, DRIFT.effect)


def quiet(name: str, window: int, weeks: int, seed: int, *, others: bool = True) -> Row:
    """Weeks of a quiet table, each looked at once, windows side by side: how many alarmed, and of how many segments."""
    draw = np.random.default_rng([seed, window, *name.encode()])
    made = cases.QUIET[name]((SEGMENTS, FEATURES, REFERENCE + weeks * window), draw)
    lasts = [REFERENCE + (week + 1) * window - 1 for week in range(weeks)]
    found = [look(made, last, window).drifted for last in lasts]
    if not others:
        return {"table": name, "window": window, **_alarmed(found)}
    # of every second week one segment: a report takes as long as a look at 200 segments
    theirs = [row for n, last in enumerate(lasts[::2]) for row in evidently_alarms(made, last, window, [n])]
    permuted = np.mean([permutation_alarm(made, last, window, n) for n, last in enumerate(lasts)])
    said = {"permutation, segments alarmed": f"{permuted:.1%}"}
    return {"table": name, "window": window, **_alarmed(found), **said, **_evidently_said(theirs)}


def permutation_alarm(made: Made, last: int, window: int, segment: int) -> bool:
    """The reference: whether one segment alarms at 5% where its window trades places with each one before it.

    Kolmogorov-Smirnov's statistic of the current rows against all before them, its rank among those of every earlier
    window side by side against the others, Bonferroni over the columns. No control over segments or weeks.
    """
    from scipy.stats import ks_2samp

    columns = made.values[segment % len(made.values)][:, : last + 1]
    least = 1.0
    for values in columns:
        known = values[np.isfinite(values)]
        windows = known[len(known) % window :].reshape(-1, window)
        rest = [np.delete(windows, place, axis=0).ravel() for place in range(len(windows))]
        found = np.array([ks_2samp(own, others).statistic for own, others in zip(windows, rest, strict=True)])
        least = min(least, float((found >= found[-1] - 1e-12).mean()))
    return least * len(columns) <= 0.05


def _alarmed(found: list[NDArray[np.bool_]]) -> Row:
    weeks = np.array([each.any() for each in found])
    return {
        "weeks": len(found),
        "weeks with any alarm": f"{weeks.mean():.1%}",
        "segments alarmed": f"{np.mean([each.mean() for each in found]):.3%}",
    }


def _evidently_said(alarms: list[tuple[bool, bool, float]]) -> Row:
    if not alarms:
        return {}
    any_column, dataset = (np.mean([alarm[place] for alarm in alarms]) for place in (0, 1))
    return {"Evidently: any column": f"{any_column:.0%}", "Evidently: dataset": f"{dataset:.0%}"}


def evidently_alarms(made: Made, last: int, window: int, segments: list[int]) -> Iterator[tuple[bool, bool, float]]:
    """Whether Evidently's preset, as it comes, says that any column, or the data set, drifted; and its seconds.

    It has an error in place of a report where a column has become empty: no alarm.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [f"x{n}" for n in range(made.values.shape[1])]
    text = [name for name, category in zip(names, made.categories, strict=True) if category]
    definition = DataDefinition(
        numerical_columns=[name for name in names if name not in text], categorical_columns=text
    )
    for segment in segments:
        frame = pd.DataFrame(made.values[segment % len(made.values)].T, columns=names)[: last + 1]
        frame = frame.astype(dict.fromkeys(text, object))
        start = time.perf_counter()
        sides = [Dataset.from_pandas(part, definition) for part in (frame[-window:], frame[:-window])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                told = Report([DataDriftPreset()]).run(*sides).dict()["metrics"][0]["value"]
            except ValueError:
                told = {"count": 0, "share": 0.0}
        yield told["count"] > 0, told["share"] >= 0.5, time.perf_counter() - start


Alarms = list[tuple[bool, bool, float]]


def changed(setting: Setting, size: float, window: int, repeat: int, evidently: int, *, one: bool = False) -> Row:
    """Share of the changed segments that are found: one feature, or the label, of some segments of a fleet."""
    said, name, change, _ = setting
    looks, column = [], 0 if said == LABEL else 1
    for seed in range(repeat):
        draw = np.random.default_rng([seed, window, *said.encode(), *name.encode()])
        made = cases.QUIET[name]((SEGMENTS, FEATURES, REFERENCE + window), draw)
        some = draw.choice(SEGMENTS, 1 if one else CHANGED, replace=False)
        made.values[some, column, -window:] = change(made.values[some, column, -window:], size, draw)
        looks.append(_told(made, some, window, evidently if seed == 0 else 0))
    return _row(f"{said}{', one segment' * one}", name, window, size, looks)


def broken_season(size: float, window: int, repeat: int, evidently: int) -> Row:
    """Weekdays in another order: the same values of a whole week, each on another day."""
    looks = []
    for seed in range(repeat):
        draw = np.random.default_rng([seed, window, 77])
        plain = cases.QUIET["AR(1) 0.6"]((SEGMENTS, FEATURES, REFERENCE + window), draw).values
        values = cases.weekly(plain, size)
        some = draw.choice(SEGMENTS, CHANGED, replace=False)
        values[some, :, -window:] = (values - plain)[some, :, -window - 3 : -3] + plain[some, :, -window:]
        looks.append(_told(cases.numbers(values), some, window, evidently if seed == 0 else 0))
    return _row("week broken, its standard deviation", "AR(1) 0.6", window, size, looks)


def _told(made: Made, some: NDArray[np.int64], window: int, evidently: int) -> tuple[float, float, Alarms]:
    """Share of the changed segments found, share of the alarms that are false, and what Evidently says of a few."""
    last = REFERENCE + window - 1
    drifted = look(made, last, window).drifted
    hits = drifted[some]
    theirs = list(evidently_alarms(made, last, window, some[:evidently].tolist()))
    return float(hits.mean()), float((drifted.sum() - hits.sum()) / max(drifted.sum(), 1)), theirs


def _row(said: str, name: str, window: int, size: float, looks: list[tuple[float, float, Alarms]]) -> Row:
    hits, false = (np.mean([each[place] for each in looks]) for place in (0, 1))
    theirs = [alarm for each in looks for alarm in each[2]]
    found = {"change": said, "table": name, "rows": window, "size": size, "found": f"{hits:.0%}"}
    return {**found, "false, of the alarms": f"{false:.1%}", **_evidently_said(theirs)}


def real(file: Path, segments: int, evidently: int) -> Row:
    """Weeks of a real table's last year, windows side by side, each champion trained on all before."""
    weekly = "walmart" in file.name
    made = cases.walmart(file, segments) if weekly else cases.beijing(file)
    window, total = default_window(made.frequency), made.values.shape[2]
    # of the retail table the weeks between the holidays, February to October 2012, are the quiet ones
    looks = range(total - 1, total - 9 * window, -window) if weekly else range(total - 1, total - 52 * window, -window)
    found = [look(made, last, window).drifted for last in looks]
    theirs = [row for n, last in enumerate(looks[:evidently]) for row in evidently_alarms(made, last, window, [n])]
    return {"table": f"{file.stem}, {len(made.values)} segments", "window": window, **_alarmed(found),
            **_evidently_said(theirs)}  # fmt: skip


def main() -> None:
    """Runs all of it on two cores and prints a table a part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--weeks", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--rows", type=int, nargs="+", default=[7, 14, 28, 56], help="of the window that changed")
    parser.add_argument("--evidently", type=int, default=5, help="reports a case; 0: neither these nor permutations")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--segments", type=int, default=600, help="of the real retail table")
    parser.add_argument("--parts", default="quiet,changed,real")
    parser.add_argument("--json", type=Path, default=Path("drift.json"), help="what was measured, to go on from")
    asked = parser.parse_args()
    parts: dict[str, Tasks] = {
        "quiet": _quiet_tasks(asked) if "quiet" in asked.parts else {},
        "changed": _changed_tasks(asked) if "changed" in asked.parts else {},
        "real": _real_tasks(asked) if "real" in asked.parts and asked.real else {},
    }
    done = measured({key: task for tasks in parts.values() for key, task in tasks.items()}, asked.json)
    for part, tasks in parts.items():
        rows = [done[key] for key in tasks]
        if rows:
            show(by_rows(rows) if part == "changed" else rows)


def _quiet_tasks(asked: argparse.Namespace) -> Tasks:
    work = partial(quiet, weeks=asked.weeks, seed=0, others=asked.evidently > 0)
    return {
        f"quiet, {name}, {window} rows, {asked.weeks} weeks": partial(work, name, window)
        for name in cases.QUIET
        for window in (7, 28)
    }


def _changed_tasks(asked: argparse.Namespace) -> Tasks:
    often: dict[str, int] = {"repeat": asked.repeat, "evidently": asked.evidently}
    tasks: Tasks = {}
    for window in asked.rows:
        for setting, one in [*((each, False) for each in SETTINGS), (SETTINGS[0], True)]:
            for size in setting[3]:
                key = f"{setting[0]}, {setting[1]}, {size:g}, {window} rows, {asked.repeat} fleets"
                tasks[key + ", one segment" * one] = partial(changed, setting, size, window, **often, one=one)
        for size in (0.5, 1, 2, 4):
            key = f"broken week, {size:g}, {window} rows, {asked.repeat} fleets"
            tasks[key] = partial(broken_season, size, window, **often)
    return tasks


def _real_tasks(asked: argparse.Namespace) -> Tasks:
    files = sorted(asked.real.glob("*.parquet"))
    return {
        f"real, {file.stem}, {asked.segments} segments": partial(real, file, asked.segments, 2 * asked.evidently)
        for file in files
    }


def measured(tasks: Tasks, file: Path) -> dict[str, Row]:
    """The row of each task: from the file, or measured, printed, and written to it at once."""
    done: dict[str, Row] = json.loads(file.read_text()) if file.exists() else {}
    with ProcessPoolExecutor(2) as pool:
        waiting = {pool.submit(task): key for key, task in tasks.items() if key not in done}
        for finished in as_completed(waiting):
            done[waiting[finished]] = finished.result()
            print(f"{waiting[finished]}: {json.dumps(finished.result())}", flush=True)
            partly = file.with_suffix(".tmp")
            partly.write_text(json.dumps(done, indent=1))
            partly.replace(file)
    return done


def by_rows(rows: list[Row]) -> list[Row]:
    """A row a change and size, a column for each number of rows; what Evidently finds in brackets."""
    frame, keys = pd.DataFrame(rows), ["change", "table", "size"]
    theirs = "Evidently: any column"
    frame["said"] = frame["found"] + (" (" + frame[theirs] + ")" if theirs in frame else "")
    false = "false, of the alarms"
    frame[false] = frame[false].str.rstrip("%").astype(float)
    wide = frame.pivot_table(index=keys, columns="rows", values="said", aggfunc="first", sort=False)
    wide = wide.loc[pd.MultiIndex.from_frame(frame[keys].drop_duplicates())]
    wide.columns = [f"{rows} rows" for rows in wide.columns]
    shares = frame.groupby(keys, sort=False)[false].mean().map("{:.1f}%".format)
    found = wide.join(shares).reset_index().to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]


def show(rows: Iterable[Row]) -> None:
    """Prints a table in Markdown, each row as it comes."""
    for place, row in enumerate(rows):
        if place == 0:
            print("| " + " | ".join(map(str, row)) + " |\n|" + " --- |" * len(row))
        print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
    print(flush=True)


if __name__ == "__main__":
    main()
