"""Log lines that cannot steer a terminal, whatever the file names in them."""

import logging
import re

from .errors import printable

__all__ = ["escape_control_characters"]

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")  # Detectron2 colours its own lines with it


class _Escape(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        escaped = "".join(part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(text))
        if escaped != text:
            record.msg, record.args = escaped, None
        if record.exc_info and not record.exc_text:  # which every formatter takes as it is
            record.exc_text = printable(_PLAIN.formatException(record.exc_info))
        return True


_PLAIN = logging.Formatter()
_ESCAPE = _Escape()


def escape_control_characters(*logger_names: str) -> None:
    """Escape them in all that the handlers of these loggers write, but for colours. Calling it again does no more."""
    for name in logger_names:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_ESCAPE)
