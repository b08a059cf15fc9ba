"""Logs: JSON lines on stderr, from our own code and from libraries alike."""

import logging
import sys
from typing import Any

import structlog


def configure(level: str, process: str) -> None:
    """Send everything from `level` up to stderr, a JSON object a line; safe to repeat.

    Lines carry time (UTC), level, event, process, pid. Nobody logs a payload, a secret or a URL.
    """
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
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _name_process(process),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_number(level))
    # Their informative lines repeat what ours say.
    for chatty in ("alembic", "uvicorn", "httpx2", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(max(_number(level), logging.WARNING))


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


def _name_process(process: str) -> structlog.typing.Processor:
    def add(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        pid = event.pop("process", None)
        return {**event, "process": process, "pid": pid}

    return add
