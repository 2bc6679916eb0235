"""The contract's rules: what each refuses, counts or stops, and what cannot be a rule."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from assets.features.contract import judged_rows
from assets.features.publish import FEATURES, QUARANTINE, publish_features
from assets.raw.ingest import ingest
from assets.raw.inspect import inspect_frame
from assets.raw.kinds import column_kinds
from assets.raw.read import read_source
from assets.raw.snapshot import read_snapshot
from assets.raw.source import FILE, ROW, find_files
from resources.contract import Contract
from resources.problems import InputError
from resources.spark import Spark
from tests.conftest import Fleet, MakeFleet, daily_sales
from tests.judging import judged

HEADER = "shop,day,sold,price,kind,open\n"
GOOD = "".join(f"a,2024-01-{day:02},{day},{day},x,yes\n" for day in range(1, 29))
FEATURES_OF_IT = {"known_ahead": ["price", "kind"]}


def judge(spark: Spark, fleet: Fleet) -> tuple[list[dict[str, Any]], dict[str, int], dict[str, int]]:
    """The refused rows, and the counts by reason and by rule, of a fleet's table."""
    raw = read_source(spark.session(), find_files(fleet.settings), fleet.settings)
    profile = inspect_frame(spark, raw, fleet.settings).profile
    found = judged(spark, raw, fleet.settings, profile, 2)
    return found.refused, *found.counts


def test_every_kind_of_rule_refuses_what_breaks_it(spark: Spark, make_fleet: MakeFleet) -> None:
    bad = {
        "b,2024-01-01,1,,x,yes": "null:price",
        "b,2024-01-02,1,0.5,x,yes": "below_minimum:price",
        "b,2024-01-03,1,99,x,yes": "above_maximum:price",
        "b,2024-01-04,1,dear,x,yes": "unparsable:price",
        "b,2024-01-05,1,1,z,yes": "not_allowed:kind",
        "b,2024-01-06,1,1,x,perhaps": "unparsable:open",
        "b,2023-12-31,1,1,x,yes": "below_minimum:day",
        "b,2024-01-07,-1,1,x,yes": "expectation:sold_if_open",
        "b,2024-01-08,-1,1,x,no": "",
        "b,2024-01-09,,1,,yes": "",
    }
    columns = {
        "price": {"type": "number", "nullable": False, "minimum": 1, "maximum": 50, "unit": "EUR"},
        "kind": {"allowed": ["x", "y"]},
        "open": {"type": "boolean"},
        "day": {"minimum": pd.Timestamp("2024-01-01").date()},
    }
    expectations = [{"name": "sold_if_open", "predicate": "sold >= 0 or not open"}]
    contract = {"columns": columns, "expectations": expectations}
    text = HEADER + GOOD + "\n".join(bad) + "\n"
    fleet = make_fleet(text, features=FEATURES_OF_IT, contract=contract)
    refused, by_reason, by_rule = judge(spark, fleet)
    wanted = Counter(reason for reason in bad.values() if reason)
    assert by_reason == {"": 28 + 2, **wanted}
    assert [row["__reason"] for row in refused] == [reason for reason in bad.values() if reason]
    # a price that is no number is no price either
    assert by_rule == {**wanted, "null:price": 2}
    assert refused[3]["price"] == "dear"


def test_bounds_and_allowed_values_say_what_a_column_is(spark: Spark, make_fleet: MakeFleet) -> None:
    header, rest = HEADER.strip() + ",size,since,sale\n", ",7,2020-01-01,true"
    good = "".join(f"{line}{rest}\n" for line in GOOD.splitlines())
    bad = {
        "b,2024-01-01,1,1,x,yes,tiny,2020-01-01,true": "unparsable:size",
        "b,2024-01-02,1,1,x,yes,70,2020-01-01,true": "above_maximum:size",
        "b,2024-01-03,1,1,x,yes,7,long ago,true": "unparsable:since",
        "b,2024-01-04,1,1,x,yes,7,1999-01-01,true": "below_minimum:since",
        "b,2024-01-05,1,1,x,yes,7,2020-01-01,false": "not_allowed:sale",
        "b,2024-01-06,1,1,x,yes,,,": "",
    }
    columns = {
        "size": {"maximum": 10}, "since": {"minimum": pd.Timestamp("2000-01-01").date()}, "sale": {"allowed": [True]},
    }  # fmt: skip
    fleet = make_fleet(header + good + "\n".join(bad) + "\n", features=FEATURES_OF_IT, contract={"columns": columns})
    _, by_reason, _ = judge(spark, fleet)
    assert by_reason == {"": 29, **Counter(reason for reason in bad.values() if reason)}


def test_a_predicate_on_text_that_is_no_number_is_named(spark: Spark, make_fleet: MakeFleet) -> None:
    contract = {"expectations": [{"name": "odd", "predicate": "open > 5"}]}
    fleet = make_fleet(HEADER + GOOD, features=FEATURES_OF_IT, contract=contract)
    with pytest.raises(InputError, match=r"contract.expectations odd: .* fails on a row .* -> give its columns a type"):
        ingest(fleet.lake, spark, fleet.settings)


def test_a_rule_that_warns_counts_and_keeps(spark: Spark, make_fleet: MakeFleet) -> None:
    columns = {"price": {"type": "number", "maximum": 20, "action": "warn"}}
    contract = {
        "columns": columns,
        "expectations": [{"name": "late", "predicate": "day < '2024-01-05'", "action": "warn"}],
    }
    text = HEADER + GOOD + "b,2024-01-04,1,dear,x,yes\n"
    _, by_reason, by_rule = judge(spark, make_fleet(text, features=FEATURES_OF_IT, contract=contract))
    assert by_reason == {"": 29}
    assert by_rule == {"above_maximum:price": 8, "expectation:late": 24, "unparsable:price": 1}


def test_a_rule_that_fails_builds_nothing_and_shows_rows(spark: Spark, make_fleet: MakeFleet) -> None:
    rule = {"name": "cheap", "predicate": "price <= 26", "action": "fail"}
    fleet = make_fleet(HEADER + GOOD, features=FEATURES_OF_IT, contract={"expectations": [rule]})
    ingest(fleet.lake, spark, fleet.settings)
    with pytest.raises(InputError, match=r"expectation:cheap is broken by 2 of 28 rows, 0.00% are tolerated") as caught:
        publish_features(fleet.lake, spark, fleet.settings)
    assert "table.csv" in str(caught.value)
    assert '"price":"27"' in str(caught.value)
    assert not fleet.lake.table(FEATURES).exists()
    assert not fleet.lake.table(QUARANTINE).exists()
    tolerant = Contract.model_validate({"expectations": [{**rule, "tolerance": 0.1}]})
    built = publish_features(fleet.lake, spark, fleet.settings.model_copy(update={"contract": tolerant}))
    assert built.record["rows"]["valid"] == 28
    assert built.record["by_rule"] == {"expectation:cheap": 2}


@pytest.mark.parametrize(
    ("predicate", "said"),
    [
        ("price >", "PARSE_SYNTAX_ERROR"),
        ("price > 0; drop table x", "PARSE_SYNTAX_ERROR"),
        ("insert into t values (1)", "PARSE_SYNTAX_ERROR"),
        ("pric > 0", "pric"),
        ("price + 1", "no condition on a row"),
        ("sum(price) > 0", "no condition on a row"),
        ("row_number() over (order by price) > 1", "no condition on a row"),
        ("price in (select 1)", "looks at another table"),
        ("rand() < 0.5", "not the same each time"),
        ("java_method('java.util.UUID', 'randomUUID') is null", "not the same each time"),
        ("price > 0) or (1 = 1", "PARSE_SYNTAX_ERROR"),
    ],
)
def test_what_is_no_rule_is_said_before_anything_is_written(
    spark: Spark, make_fleet: MakeFleet, predicate: str, said: str
) -> None:
    contract = {
        "expectations": [{"name": "good", "predicate": "price > 0 -- fine"}, {"name": "odd", "predicate": predicate}]
    }
    fleet = make_fleet(HEADER + GOOD, features=FEATURES_OF_IT, contract=contract)
    with pytest.raises(InputError) as caught:
        ingest(fleet.lake, spark, fleet.settings)
    [problem] = caught.value.problems
    assert problem.where == "fleet.yaml contract.expectations odd"
    assert said in problem.what
    assert not fleet.lake.table("raw").exists()


@pytest.mark.parametrize("action", ["drop", "warn"])
def test_a_rule_that_fails_on_a_row_is_named(spark: Spark, make_fleet: MakeFleet, action: str) -> None:
    contract = {"expectations": [{"name": "ratio", "predicate": "sold / (price - 3) < 100", "action": action}]}
    fleet = make_fleet(HEADER + GOOD, features=FEATURES_OF_IT, contract=contract)
    with pytest.raises(InputError, match=r"contract.expectations ratio: .* fails on a row .*DIVIDE_BY_ZERO"):
        ingest(fleet.lake, spark, fleet.settings)


def jobs_and_scans(spark: Spark, fleet: Fleet, expectations: int) -> tuple[int, int]:
    """How many Spark jobs build the features of a table, and how often its files are scanned."""
    rules = [{"name": f"e{n}", "predicate": f"price > {n - 5}", "action": "warn"} for n in range(expectations)]
    settings = fleet.settings.model_copy(update={"contract": Contract.model_validate({"expectations": rules})})
    ingest(fleet.lake, spark, settings)
    context = spark.session().sparkContext
    context.setJobGroup(f"rules {expectations}", "")
    try:
        built = publish_features(fleet.lake, spark, settings)
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
    assert len(built.record["by_rule"]) == max(0, expectations - 6)
    jobs = context.statusTracker().getJobIdsForGroup(f"rules {expectations}")
    judged_frame = judged_rows(read_snapshot(spark, fleet.lake.table("raw"), settings), settings, built.profile, 2)
    return len(jobs), judged_frame._jdf.queryExecution().executedPlan().toString().count("FileScan")


def test_one_pass_however_many_rules(spark: Spark, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(daily_sales(), features={"known_ahead": ["price"]})
    few, many = jobs_and_scans(spark, fleet, 1), jobs_and_scans(spark, fleet, 200)
    assert few == many
    assert few[1] == 1


def test_a_declared_type_overrides_what_the_cells_look_like(spark: Spark, make_fleet: MakeFleet) -> None:
    numbered = make_fleet(HEADER + GOOD, features=FEATURES_OF_IT, contract={"columns": {"price": {"type": "text"}}})
    raw = read_source(spark.session(), find_files(numbered.settings), numbered.settings)
    assert column_kinds(raw, numbered.settings)["price"] == "text"
    table = make_fleet(
        daily_sales(), features={"known_ahead": ["price"]}, contract={"columns": {"price": {"type": "text"}}}
    )
    ingest(table.lake, spark, table.settings)
    built = publish_features(table.lake, spark, table.settings)
    assert built.recipe.categories["price"] == ["1.0", "2.0", "3.0", "4.0", "5.0"]


PREDICATES = ["price > 2", "sold < 150", "shop <> 'shop 1'", "price is not null", "length(shop) > 99", "true", "false"]
RULES = st.lists(st.tuples(st.sampled_from(PREDICATES), st.sampled_from(["warn", "drop"])), max_size=4)


@hypothesis_settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(RULES, min_size=1, max_size=2))
def test_no_row_is_lost_or_counted_twice_whatever_the_rules_and_their_order(
    spark: Spark, make_fleet: MakeFleet, orders: list[list[tuple[str, str]]]
) -> None:
    table = daily_sales(days=40)
    fleet = make_fleet(table, features={"known_ahead": ["price"]})
    ingest(fleet.lake, spark, fleet.settings)
    for rules in [*orders, []]:
        expectations = [{"name": f"e{n}", "predicate": p, "action": a} for n, (p, a) in enumerate(rules)]
        contract = Contract.model_validate({"expectations": expectations})
        settings = fleet.settings.model_copy(update={"contract": contract})
        try:
            rows = publish_features(fleet.lake, spark, settings).record["rows"]
        except InputError:  # rules that leave nothing to train are refused as a whole
            continue
        held = fleet.lake.table(QUARANTINE).arrow().to_pandas()
        assert rows["read"] == rows["valid"] + rows["quarantined"] == len(table)
        assert len(held) == rows["quarantined"]
        assert not held.duplicated([FILE, ROW]).any()
    assert (rows["valid"], rows["quarantined"]) == (len(table), 0)


def test_rules_of_every_type_pass_through_ingest_and_features(spark: Spark, make_fleet: MakeFleet) -> None:
    text = "shop,day,sold,price,opened,code\n"
    text += "".join(f"1,{day:02}.01.2024,{day},{day},05.03.2020,{1 + day % 3}\n" for day in range(1, 29))
    bad = {
        "2,01.01.2024,1,NaN,05.03.2020,1": "null:price",
        "2,02.01.2024,1,1,05.03.1980,1": "below_minimum:opened",
        "2,03.01.2024,1,1,long ago,1": "unparsable:opened",
        "2,04.01.2024,1,1,05.03.2020,9": "not_allowed:code",
        "A7,05.01.2024,1,1,05.03.2020,1": "unparsable:shop",
        "2,06.01.2024": "malformed",
    }
    columns = {
        "price": {"type": "number", "nullable": False, "maximum": 500},
        "opened": {"minimum": pd.Timestamp("1990-01-01").date()},
        "code": {"allowed": ["1", "2", "3"]},
        "shop": {"minimum": 1},
    }
    keys = {"features": {"known_ahead": ["price", "code"]}, "contract": {"columns": columns}}
    source = {"path": "table.csv", "options": {"timestampFormat": "dd.MM.yyyy"}}
    fleet = make_fleet(text + "\n".join(bad) + "\n", source=source, **keys)
    assert ingest(fleet.lake, spark, fleet.settings).is_new
    assert not ingest(fleet.lake, spark, fleet.settings).is_new
    rows = publish_features(fleet.lake, spark, fleet.settings).record["rows"]
    assert rows["by_reason"] == Counter(bad.values())
    assert rows["valid"] == 28
