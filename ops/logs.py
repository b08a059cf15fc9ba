"""Logs: JSON lines, from our own code and from libraries alike; readable ones on a terminal."""

import io
import logging
import sys
from typing import Any, TextIO

import structlog


def configure(level: str, process: str, stream: TextIO | None = None) -> None:
    """Send everything from `level` up to a stream, an object a line; safe to repeat.

    A process that serves logs to stdout, where collectors look; a command to stderr (the
    default), for its stdout is its result. Lines carry time (UTC), level, event, process, pid.
    Nobody logs a payload, a secret or a URL.
    """
    stream = sys.stderr if stream is None else stream
    if isinstance(stream, io.TextIOWrapper):
        # A text from outside may hold what no encoding can spell: a line must not be lost for it.
        stream.reconfigure(errors="backslashreplace")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.CallsiteParameterAdder(
            {structlog.processors.CallsiteParameter.PROCESS}
        ),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _name_process(process),
                *_renderers(is_terminal=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    # Their informative lines repeat what ours say.
    for chatty in ("alembic", "uvicorn", "httpx2", "sqlalchemy", "opentelemetry"):
        logging.getLogger(chatty).setLevel(max(_number(level), logging.WARNING))


def _renderers(*, is_terminal: bool) -> list[Any]:
    if is_terminal:
        return [structlog.dev.ConsoleRenderer(timestamp_key="time")]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _name_process(process: str) -> structlog.typing.Processor:
    def add(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        pid = event.pop("process", None)
        return {**event, "process": process, "pid": pid}

    return add
