"""Log lines that cannot steer a terminal or pass for others, whatever the file names in them."""

import logging
import re

from ..errors import printable

__all__ = ["escape_control_characters"]

_INDENT = "  "
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")  # Detectron2 colours its own lines with it


class _Escape(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "is_escaped"):  # by another handler
            return True
        record.is_escaped = True
        # Further lines are indented: those of a log that begin at its edge are its own.
        record.msg, record.args = _escaped(record.getMessage()).replace("\n", f"\n{_INDENT}"), None
        if record.exc_info and not record.exc_text:  # which every formatter takes as it is, on lines of its own
            text = _escaped(_PLAIN.formatException(record.exc_info))
            record.exc_text = _INDENT + text.replace("\n", f"\n{_INDENT}")
        return True


def _escaped(text: str) -> str:
    return "".join(part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(text))


_PLAIN = logging.Formatter()
_ESCAPE = _Escape()


def escape_control_characters(*logger_names: str) -> None:
    """Escape them in all that the handlers of these loggers write, but for colours. Calling it again does no more."""
    for name in logger_names:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_ESCAPE)
