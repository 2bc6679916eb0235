"""What a terminal shows of a run: one line a message, without Dagster's events and stack traces."""

from __future__ import annotations

import logging
import sys

from dagster import Field, InitLoggerContext, logger


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()
        return f"{self.formatTime(record, '%H:%M:%S')}  {said}"


def _is_message(record: logging.LogRecord) -> bool:
    return not getattr(record, "dagster_meta", {}).get("dagster_event")


@logger(Field(str, is_required=False, default_value="INFO"), description="One plain line a message on stderr.")
def terminal_logger(context: InitLoggerContext) -> logging.Logger:
    """A logger that writes messages of the configured level and above to stderr."""
    level = logging.getLevelName(context.logger_config)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain())
    handler.addFilter(_is_message)
    plain = logging.Logger("fleet", level)
    plain.addHandler(handler)
    return plain
