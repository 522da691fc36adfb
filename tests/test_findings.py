"""The form of a check's result, and the adapter that stops a training at the first error."""

import pytest

from retina_plugin.errors import SetupError
from retina_plugin.findings import ERROR, NOTE, WARNING, finding, raise_first_error


def test_finding_takes_severity_and_remedy_from_the_catalog_unless_it_has_its_own():
    found = finding("box-twice", "my_set", "my_set: 1 of 9 boxes repeat a box.")
    assert (found.severity, str(found)) == (WARNING, "my_set: 1 of 9 boxes repeat a box. Delete the second one.")
    found = finding("box-twice", "my_set", "one box", "", severity=NOTE)
    assert (found.severity, str(found)) == (NOTE, "one box.")
    with pytest.raises(KeyError):
        finding("no-such-check", "my_set", "one box")


def test_raise_first_error_stops_there_and_returns_the_milder_ones():
    seen = []

    def check():
        for severity in (NOTE, WARNING, ERROR, ERROR):
            seen.append(severity)
            yield finding("box-empty", "my_set", f"{severity} of my_set", "Delete it.", severity=severity)

    with pytest.raises(SetupError, match=r"^error of my_set. Delete it.$"):
        raise_first_error(check())
    assert seen == [NOTE, WARNING, ERROR]
    milder = [found for found in check() if found.severity != ERROR]
    assert raise_first_error(milder) == milder
