"""The one form of every check: a generator function that yields a ``Finding`` for each thing it finds.

A training stops at the first error (``raise_first_error``); ``retina doctor`` runs the same generators to their end.

    def check_batch(cfg: CfgNode) -> Iterator[Finding]:
        if cfg.SOLVER.IMS_PER_BATCH < 1:
            yield finding("config-value", "SOLVER.IMS_PER_BATCH", "SOLVER.IMS_PER_BATCH must be at least 1, got 0")

    warnings = raise_first_error(check_batch(cfg))  # a training
    report.add(check_batch(cfg))                    # the doctor
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import SetupError
from .findings_catalog import CATALOG, ERROR, NOTE, WARNING

__all__ = ["ERROR", "NOTE", "WARNING", "Finding", "finding", "raise_first_error"]


@dataclass(frozen=True)
class Finding:
    """One fault or doubtful value: its severity, its place and the remedy."""

    # "error": training cannot work or makes no sense; "warning": probably not meant; "note": good to know.
    severity: str
    # A name in CATALOG; it stays the same from release to release.
    check: str
    # The config key, the data set or the package.
    where: str
    # A sentence with the value found, without a full stop.
    what: str
    remedy: str
    # Every single place, such as {"file": ..., "image_id": ..., "annotation_id": ..., "value": ...}.
    places: tuple[Mapping[str, object], ...] = ()

    def __str__(self) -> str:
        """One or two sentences for a log."""
        return f"{self.what}. {self.remedy}".strip()


def finding(
    check: str,
    where: str,
    what: str,
    remedy: str | None = None,
    *,
    severity: str | None = None,
    places: Iterable[Mapping[str, object]] = (),
) -> Finding:
    """Make a finding with the severity and the remedy of ``check`` in CATALOG, unless this case has its own.

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


def raise_first_error(findings: Iterable[Finding]) -> list[Finding]:
    """Run a check up to its first error.

    Returns:
        the warnings and notes, in their order.

    Raises:
        SetupError: with the sentences of the first finding of severity ERROR.
    """
    milder = []
    for found in findings:
        if found.severity == ERROR:
            raise SetupError(str(found))
        milder.append(found)
    return milder
