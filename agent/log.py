"""Logs as one JSON object a line."""

import json
import logging
from datetime import UTC, datetime
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
# They tell of each request and each packet of netlink; of use to nobody here.
_TALKATIVE = ("aiohttp", "asyncio", "kubernetes", "pyroute2")


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, and error for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def set_up(level: str, node: str, stream: TextIO) -> None:
    """All logging of this process goes to `stream` from now on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("agent").info("logging starts on node %s", node)
