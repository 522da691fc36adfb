"""What was found, as text (worst first, counts rolled up) and as JSON (all of it, with stable names)."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from ...findings import ERROR, NOTE, WARNING, Finding
from .bars import draw_bars

__all__ = ["Report"]

_ORDER = (ERROR, WARNING, NOTE)
_SHOWN = 5  # places of a finding that are printed; the JSON has all
_FORMAT = 1  # of the JSON; raised when a name in it changes its meaning or goes


@dataclass
class Report:
    """Everything that one call found."""

    config_file: str
    findings: list[Finding] = field(default_factory=list)
    # Versions and devices; data sets by name; anchors; memory in bytes. Empty where a step was not reached.
    environment: dict = field(default_factory=dict)
    data: dict[str, dict] = field(default_factory=dict)
    anchors: dict = field(default_factory=dict)
    memory: dict = field(default_factory=dict)
    schedule: dict = field(default_factory=dict)

    def add(self, found: Iterable[Finding]) -> None:
        self.findings += found

    @property
    def makes_sense(self) -> bool:
        """Whether training does: there is no error."""
        return not self.of(ERROR)

    def of(self, severity: str) -> list[Finding]:
        return [found for found in self.findings if found.severity == severity]

    def as_json(self) -> str:
        content = {
            "format": _FORMAT,
            "config_file": self.config_file,
            "training_makes_sense": self.makes_sense,
            "counts": {severity: len(self.of(severity)) for severity in _ORDER},
            "findings": [
                {**asdict(found), "count": max(1, len(found.places))} for level in _ORDER for found in self.of(level)
            ],
            "environment": self.environment,
            "schedule": self.schedule,
            "memory": self.memory,
            "data": self.data,
            "anchors": self.anchors,
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def as_text(self) -> str:
        sections = [self._facts()]
        sections += [f"{name} ({_sizes(numbers)})\n{draw_bars(numbers)}" for name, numbers in self.data.items()]
        for severity in _ORDER:
            if found := self.of(severity):
                title = f"{len(found)} {severity}{'s' * (len(found) > 1)}".upper()
                sections.append("\n".join([title, *map(_draw_finding, found)]))
        return "\n\n".join([*(section for section in sections if section), self._verdict()])

    def _verdict(self) -> str:
        errors, warnings = len(self.of(ERROR)), len(self.of(WARNING))
        if errors:
            return f"Do not train yet: {errors} {'errors' if errors > 1 else 'error'} to mend first."
        if warnings:
            return f"Training works. Read the {warnings} {'warnings' if warnings > 1 else 'warning'} before it starts."
        return "Training works and makes sense, as far as can be seen."

    def _facts(self) -> str:
        lines = [f"{self.config_file}"]
        if versions := self.environment.get("versions"):
            shown = ("torch", "torchvision", "numpy", "Pillow")
            named = [f"{name} {versions[name]}" for name in shown if versions.get(name)]
            lines.append(f"  {', '.join(named)}, Detectron2 {self.environment.get('detectron2')}")
        if device := self.environment.get("device"):
            lines.append(f"  device: {device}")
        if self.schedule:
            lines.append(
                "  {iterations} iterations of {images_per_batch} images: {epochs:.1f} epochs".format(**self.schedule)
            )
        if self.memory:
            lines.append(
                "  memory of a training step: {:.2f} GiB of {:.1f} (batch of {images} x {height} x {width} px)".format(
                    self.memory["needed"] / 2**30, self.memory["available"] / 2**30, **self.memory
                )
            )
        if self.anchors:
            everything = self.anchors["groups"]["all"]
            lines.append(
                f"  anchors: mean best IoU {everything['mean_best_iou']:.2f}, "
                f"{100 * everything['coverage_0.5']:.1f} % of {self.anchors['boxes']} boxes at 0.5 or more"
            )
        return "\n".join(lines)


def _sizes(numbers: Mapping) -> str:
    return f"{numbers['images']} images, {numbers['images_with_boxes']} with boxes; {numbers['boxes']} boxes"


def _draw_finding(found: Finding) -> str:
    lines = [f"  [{found.check}] {found.what}.".replace("\n", "\n    ")]
    for place in found.places[:_SHOWN]:
        lines.append(f"      {_draw_place(place)}")
    if len(found.places) > _SHOWN:
        lines.append(f"      and {len(found.places) - _SHOWN} more")
    if found.remedy:
        lines.append(f"    -> {found.remedy}")
    return "\n".join(lines)


def _draw_place(place: Mapping) -> str:
    parts = [str(place["file"])]
    for key, name in (("image_id", "image id"), ("annotation_id", "annotation id"), ("bbox", "box")):
        if key in place:
            numbers = ", ".join(v if isinstance(v, str) else f"{v:g}" for v in place["bbox"]) if key == "bbox" else ""
            parts.append(f"{name} [{numbers}]" if numbers else f"{name} {place[key]}")
    if "value" in place:
        parts.append(str(place["value"]))
    return ", ".join(parts)
