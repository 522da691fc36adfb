"""Metrics are not worth a training: a writer that fails falls silent."""

import logging

from detectron2.utils.events import EventWriter

__all__ = ["TolerantWriter"]

logger = logging.getLogger(__name__)


class TolerantWriter(EventWriter):
    """Hands on to a writer of Detectron2's until that raises an OSError (no space, no right, a share that is gone).

    Then one warning says so, and the writer is not called again.
    """

    def __init__(self, writer: EventWriter):
        self._writer: EventWriter | None = writer
        self._name = type(writer).__name__

    def write(self) -> None:
        self._try("write")

    def close(self) -> None:
        self._try("close")

    def _try(self, method: str) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)()
        except OSError as error:
            self._writer = None
            logger.warning("%s cannot write (%s): the training goes on without it", self._name, error)
