"""Writes the findings of ``retina doctor`` as text (worst first, long lists cut), as a page and as complete JSON.

Text and JSON need only the standard library, so that they work where Detectron2 cannot be imported.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ...findings import ERROR, NOTE, WARNING, Finding

__all__ = ["Report"]

SEVERITIES = (ERROR, WARNING, NOTE)
FORMAT = 1  # version of the JSON, raised when a name in it changes its meaning or is removed
MAX_PLACES = 5  # places printed for a finding
BAR = 40  # length of the longest bar, in characters
MAX_CLASSES, MAX_SIZES = 20, 5  # rows printed of the tables of classes and of image sizes


@dataclass
class Report:
    """All findings and numbers of one call."""

    config_file: str
    findings: list[Finding] = field(default_factory=list)
    # ``data`` is by name of the set, ``memory`` in bytes. A step that was not reached leaves its dict empty.
    environment: dict = field(default_factory=dict)
    data: dict[str, dict] = field(default_factory=dict)
    anchors: dict = field(default_factory=dict)
    memory: dict = field(default_factory=dict)
    schedule: dict = field(default_factory=dict)

    def add(self, found: Iterable[Finding]) -> None:
        self.findings += found

    @property
    def makes_sense(self) -> bool:
        """True if there is no error."""
        return not self.of(ERROR)

    def of(self, severity: str) -> list[Finding]:
        return [found for found in self.findings if found.severity == severity]

    def as_json(self) -> str:
        ordered = [found for severity in SEVERITIES for found in self.of(severity)]
        content = {
            "format": FORMAT,
            "config_file": self.config_file,
            "training_makes_sense": self.makes_sense,
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "findings": [{**asdict(found), "count": max(1, len(found.places))} for found in ordered],
            "environment": self.environment,
            "schedule": self.schedule,
            "memory": self.memory,
            "data": self.data,
            "anchors": self.anchors,
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def as_text(self) -> str:
        sections = ["\n".join([self.config_file, *(f"  {fact}" for fact in self._facts())])]
        for name, numbers in self.data.items():
            tables = [_draw_bars(*table) for table in _tables(numbers)]
            sections.append("\n".join([f"{name} ({_size(numbers)})", *tables]))
        for severity in SEVERITIES:
            if found := self.of(severity):
                lines = [self._count(severity).upper()]
                for one in found:
                    lines.append(f"  [{one.check}] {one.what}.".replace("\n", "\n    "))
                    lines += [f"      {_describe_place(place)}" for place in one.places[:MAX_PLACES]]
                    if len(one.places) > MAX_PLACES:
                        lines.append(f"      and {len(one.places) - MAX_PLACES} more")
                    if one.remedy:
                        lines.append(f"    -> {one.remedy}")
                sections.append("\n".join(lines))
        return "\n\n".join([*sections, self._verdict()])

    def as_html(self) -> str:
        """Render the HTML page; needs Jinja2."""
        from ..report.pages import render  # here, so that the text can be made without Jinja2

        found = {severity: self.of(severity) for severity in SEVERITIES if self.of(severity)}
        links = {severity: self._count(severity) for severity in found}
        links |= {f"set-{i}": name for i, name in enumerate(self.data)}
        return render(
            "doctor/page.html.j2",
            title=self.config_file,
            links=links,
            verdict=self._verdict(),
            facts=self._facts(),
            findings={
                severity: [(one, [_describe_place(place) for place in one.places[:MAX_PLACES]]) for one in items]
                for severity, items in found.items()
            },
            data=[(_size(numbers), _tables(numbers)) for numbers in self.data.values()],
        )

    def _count(self, severity: str) -> str:
        number = len(self.of(severity))
        return f"{number} {severity}{'s' * (number > 1)}"

    def _verdict(self) -> str:
        if not self.makes_sense:
            return f"Do not train yet: {self._count(ERROR)} to fix first."
        if self.of(WARNING):
            return f"Training works. Read the {self._count(WARNING)} before it starts."
        return "Training works and makes sense, as far as can be seen."

    def _facts(self) -> list[str]:
        facts = []
        if versions := self.environment.get("versions"):
            shown = ("torch", "torchvision", "numpy", "Pillow")
            named = [f"{name} {versions[name]}" for name in shown if versions.get(name)]
            facts.append(f"{', '.join(named)}, Detectron2 {self.environment.get('detectron2')}")
        if device := self.environment.get("device"):
            facts.append(f"device: {device}")
        if self.schedule:
            schedule = "{iterations} iterations of {images_per_batch} images: {epochs:.1f} epochs"
            facts.append(schedule.format(**self.schedule))
        if self.memory:
            facts.append(
                "memory of a training step: {:.2f} GiB of {:.1f} (batch of {images} x {height} x {width} px)".format(
                    self.memory["needed"] / 2**30, self.memory["available"] / 2**30, **self.memory
                )
            )
        if self.anchors:
            everything = self.anchors["groups"]["all"]
            facts.append(
                f"anchors: mean best IoU {everything['mean_best_iou']:.2f}, "
                f"{100 * everything['coverage_0.5']:.1f} % of {self.anchors['boxes']} boxes at 0.5 or more"
            )
        return facts


def _size(numbers: Mapping) -> str:
    return f"{numbers['images']} images, {numbers['images_with_boxes']} with boxes; {numbers['boxes']} boxes"


def _describe_place(place: Mapping) -> str:
    parts = [str(place["file"])]
    for key, name in (("image_id", "image id"), ("annotation_id", "annotation id"), ("bbox", "box")):
        if key in place:
            numbers = ", ".join(v if isinstance(v, str) else f"{v:g}" for v in place["bbox"]) if key == "bbox" else ""
            parts.append(f"{name} [{numbers}]" if numbers else f"{name} {place[key]}")
    if "value" in place:
        parts.append(str(place["value"]))
    return ", ".join(parts)


def _tables(described: dict) -> list[tuple[str, list[tuple[str, int]], int]]:
    """Title, rows (name, count) and number of omitted rows of each non-empty table of ``describe_set``."""
    classes = sorted(described["boxes_by_class"].items(), key=lambda item: -item[1])
    sizes = list(described["image_sizes"].items())
    tables = [
        ("boxes by class", classes[:MAX_CLASSES], len(classes) - MAX_CLASSES),
        ("side of a box (sqrt of its area), px after the resize", _trim(described["box_side_px_after_resize"]), 0),
        ("height / width of a box", _trim(described["box_height_by_width"]), 0),
        ("boxes in an image", _trim(described["boxes_per_image"]), 0),
        ("image sizes", sizes[:MAX_SIZES], len(sizes) - MAX_SIZES),
    ]
    return [(title, rows, max(left_out, 0)) for title, rows, left_out in tables if rows]


def _trim(bins: dict[str, int]) -> list[tuple[str, int]]:
    """Drop the empty bins at both ends."""
    items = list(bins.items())
    full = [i for i, (_, count) in enumerate(items) if count]
    return items[full[0] : full[-1] + 1] if full else []


def _draw_bars(title: str, rows: list[tuple[str, int]], left_out: int) -> str:
    width, most = max(len(name) for name, _ in rows), max(1, max(count for _, count in rows))
    lines = [f"  {title}"]
    for name, count in rows:
        bar = "#" * (max(1, round(BAR * count / most)) if count else 0)
        lines.append(f"    {name:>{width}} {count:8d} {bar}".rstrip())
    return "\n".join([*lines, *([f"    and {left_out} more"] if left_out else [])])
