"""``Finding``: one thing that a check found, in one form for the log, the page of ``retina doctor`` and its JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .findings_catalog import CATALOG, ERROR, NOTE, WARNING

__all__ = ["ERROR", "NOTE", "WARNING", "Finding", "doubt", "refusal"]


@dataclass(frozen=True)
class Finding:
    """What was found, how bad it is, where, and what to do."""

    # "error": training cannot work or makes no sense; "warning": probably not meant; "note": good to know.
    severity: str
    # A name in CATALOG; it stays the same from release to release.
    check: str
    # The config key, the data set or the package.
    where: str
    # A sentence with the value found, no full stop.
    what: str
    remedy: str
    # Every single place, such as {"file": ..., "image_id": ..., "annotation_id": ..., "value": ...}.
    places: tuple[Mapping[str, object], ...] = ()

    def __str__(self) -> str:
        """One or two sentences for a log."""
        return f"{self.what}. {self.remedy}".strip() if self.remedy else f"{self.what}."


def doubt(
    check: str,
    where: str,
    what: str,
    remedy: str | None = None,
    *,
    severity: str | None = None,
    places: Iterable[Mapping[str, object]] = (),
) -> Finding:
    """A finding with the severity and the remedy of ``check`` in CATALOG, unless this case has its own.

    Raises:
        KeyError: CATALOG has no such check.
    """
    entry = CATALOG[check]
    return Finding(
        severity or entry.severity,
        check,
        where,
        what.rstrip("."),
        entry.remedy if remedy is None else remedy,
        tuple(places),
    )


def refusal(check: str, where: str, error: Exception, *, severity: str | None = None) -> Finding:
    """The finding of a ``SetupError``, whose message has its own remedy."""
    return doubt(check, where, str(error), severity=severity)
