"""The rules of a contract as Spark SQL over one row: all of them are looked at in the pass that reads the row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from assets.raw.cells import boolean_in, filled, is_float, is_number, number_in
from assets.raw.source import CORRUPT
from resources.contract import Action, Bound, ColumnContract
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import quoted, spark_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyspark.sql import Column, DataFrame

AS_READ = "__as_read"
WHERE = "fleet.yaml contract"


@dataclass(frozen=True)
class Rule:
    """What must hold for a row (null counts as holding), and what happens where it does not."""

    name: str
    holds: str
    action: Action
    tolerance: float | None
    where: str


def rules_of(settings: Settings) -> list[Rule]:
    """The contract's rules in the order in which they give a row's reasons: columns first, then expectations.

    That label and time parse is no rule: without them a row is of no use, whatever the contract says.
    """
    contract, always = settings.contract, [*settings.time_columns, settings.label]
    columns = [
        rule for name, column in contract.columns.items() for rule in _column_rules(name, column, name in always)
    ]
    return columns + [
        Rule(f"expectation:{each.name}", each.predicate, each.action, each.tolerance, f"expectations {each.name}")
        for each in contract.expectations
    ]


def _column_rules(name: str, column: ColumnContract, parses_anyway: bool) -> list[Rule]:
    cell, found = quoted(name), []

    def must(kind: str, holds: str) -> None:
        found.append(Rule(f"{kind}:{name}", holds, column.action, column.tolerance, f"columns.{name}"))

    if meant_type(column) not in (None, "text") and not parses_anyway:
        raw = f"nullif(nullif(lower(trim(cast({AS_READ}.{cell} as string))), ''), 'nan')"
        must("unparsable", f"not ({raw} is not null and {cell} is null)")
    if not column.nullable:
        must("null", f"{cell} is not null")
    if column.minimum is not None:
        must("below_minimum", f"{cell} >= {_literal(column.minimum)}")
    if column.maximum is not None:
        must("above_maximum", f"{cell} <= {_literal(column.maximum)}")
    if column.allowed is not None:
        must("not_allowed", _one_of(cell, column.allowed, meant_type(column)))
    return found


def meant_type(column: ColumnContract) -> str | None:
    """The type that a column's contract declares or, by its bounds and allowed values, implies."""
    if column.type:
        return column.type
    values = [value for value in (column.minimum, column.maximum) if value is not None] or column.allowed or []
    if values and all(isinstance(value, bool) for value in values):
        return "boolean"
    if values and all(isinstance(value, int | float) for value in values):
        return "number"
    return "time" if values and all(isinstance(value, date) for value in values) else None


def _literal(value: Bound | str) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return f"timestamp_ntz'{value}'" if isinstance(value, date) else f"cast('{value!r}' as double)"


def _one_of(cell: str, allowed: Iterable[str | int | float | bool], meant: str | None) -> str:
    values = list(allowed)
    if meant == "boolean" and all(isinstance(value, bool) for value in values):
        return f"{cell} in ({', '.join(str(value).lower() for value in values)})"
    if meant == "number" and not any(isinstance(value, str) for value in values):
        return f"cast({cell} as double) in ({', '.join(_literal(float(value)) for value in values)})"
    texts = ", ".join(_literal(str(value).lower() if isinstance(value, bool) else str(value)) for value in values)
    # as it was written: a 1 that is read as a number is 1.0
    return (
        f"{cell} is null or cast({cell} as string) in ({texts}) or trim(cast({AS_READ}.{cell} as string)) in ({texts})"
    )


def typed_view(raw: DataFrame, settings: Settings, kinds: Mapping[str, str], time: Mapping[str, str]) -> DataFrame:
    """Raw rows as rules see them: every column under its own name, typed as the contract or its role says.

    Numbers in text are numbers, NaN and empty cells are null; `__as_read` holds the row as it came. `time` gives the
    SQL of the time column.
    """
    from pyspark.sql import functions as F

    declared = {name: type_ for name, c in settings.contract.columns.items() if (type_ := meant_type(c))}
    meant = {**kinds, **declared}
    types = dict(raw.dtypes)
    cells = [time.get(c) or _typed(c, type_, meant.get(c)) for c, type_ in types.items()]
    whole = F.struct(*[F.col(quoted(column)) for column in types]).alias(AS_READ)
    return raw.select(whole, *[F.expr(cell).alias(c) for cell, c in zip(cells, types, strict=True)])


def _typed(column: str, type_: str, meant: str | None) -> str:
    name = quoted(column)
    if type_ == "string":
        return _typed_text(column, meant)
    if meant == "text":
        return f"nullif(cast({name} as string), '')"
    if meant == "time":
        return f"cast({name} as timestamp_ntz)" if type_.startswith(("timestamp", "date")) else "null"
    if meant == "boolean" and is_number(type_):
        return f"case when {name} = 1 then true when {name} = 0 then false end"
    return f"nanvl({name}, null)" if is_float(type_) else name


def _typed_text(column: str, meant: str | None) -> str:
    if meant == "number":
        return f"nanvl({number_in(filled(column))}, null)"
    if meant == "boolean":
        return f"{boolean_in(filled(column))} = 1d"
    return f"nullif({quoted(column)}, '')"


def broken(rules: Iterable[Rule], actions: Iterable[Action]) -> Column:
    """The names of the rules with such an action that a row of `typed_view` breaks, in their order."""
    from pyspark.sql import functions as F

    chosen = [rule for rule in rules if rule.action in set(actions)]
    if not chosen:
        return F.expr("cast(array() as array<string>)")
    whole = F.col(quoted(CORRUPT)).isNull()
    names = [F.when(whole & ~F.expr(rule.holds), F.lit(rule.name)).otherwise("") for rule in chosen]
    return F.array_remove(F.array(*names), "")


def refuse_unusable(view: DataFrame, rules: Iterable[Rule]) -> None:
    """Looks at rules without running them.

    Raises:
        InputError: one is no expression, no condition on one row, names a column that is not there, looks at another
            table, or is not the same each time; all are listed.
    """
    found = [problem for rule in rules if (problem := _problem(view, rule))]
    if found:
        raise InputError(found)


def _problem(view: DataFrame, rule: Rule) -> Problem | None:
    session: Any = view.sparkSession
    where, written = f"{WHERE}.{rule.where}", f"`{rule.holds}`"
    try:
        session._jsparkSession.sessionState().sqlParser().parseExpression(rule.holds)
        condition = view.where(rule.holds)._jdf.queryExecution().analyzed().expressions().head()
    except spark_errors() as error:
        return Problem(where, f"{written} is no condition on a row ({_first_line(error)})", _columns_of(view))
    expressions = session._jvm.org.apache.spark.sql.catalyst.expressions
    if expressions.SubqueryExpression.hasSubquery(condition):
        return Problem(where, f"{written} looks at another table", "write a condition on one row")
    if not condition.deterministic():
        return Problem(
            where, f"{written} is not the same each time", "leave out rand(), uuid(), reflect() and the like"
        )
    return None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _columns_of(view: DataFrame) -> str:
    names = [name for name in view.columns if not name.startswith("__")]
    return f"the row has: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}"


def _sql_of(error: BaseException | None) -> set[str]:
    """The pieces of SQL that an error, or one that led to it, was raised in."""
    from pyspark.errors import PySparkException

    found = set()
    while error is not None:
        if isinstance(error, PySparkException):
            found |= {context.fragment() for context in error.getQueryContext() or []}
        error = getattr(error, "_cause", None) or error.__cause__
    return found - {""}


def failed_at_work(error: Exception, rules: Iterable[Rule]) -> InputError | None:
    """The user's view of an error that a rule raised on some row, such as a division by zero; None if none did."""
    said = _sql_of(error)
    guilty = [rule for rule in rules if any(fragment in rule.holds for fragment in said)]
    if not guilty:
        return None
    remedy = (
        "give its columns a type in contract.columns, or use functions that give null: try_divide, try_cast, nullif"
    )
    return InputError(
        [
            Problem(f"{WHERE}.{rule.where}", f"`{rule.holds}` fails on a row ({_first_line(error)})", remedy)
            for rule in guilty
        ]
    )
