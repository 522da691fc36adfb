"""Finds packages that do not work together, missing operators and missing devices."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from ...findings import Finding, finding

__all__ = ["find_device_faults", "find_package_faults", "import_failure", "read_devices", "read_packages"]

_NEEDED = ("torch", "torchvision", "numpy", "Pillow", "fvcore", "iopath", "pycocotools")
_SHOWN = (*_NEEDED, "hotcoco", "setuptools")
# torch 2.N goes with torchvision 0.(N + 15): from 2.0 with 0.15 up to the tested 2.14 with 0.29.
_TORCHVISION_OFFSET = 15
# docs/compatibility.md: the plugin was never run on 3.14, and TorchScript warns there that it is not supported.
_FIRST_UNTESTED_PYTHON = (3, 14)
# Package, the release that removed a name, a pattern for its use in Detectron2 v0.6, and the name.
_DROPPED = (
    ("Pillow", "10", r"Image\.LINEAR", "Image.LINEAR"),
    ("numpy", "1.24", r"np\.(int|float|object)\b(?!\d)", "np.int"),
)
_FILES_WITH_NAMES = ("data/build.py", "data/transforms/transform.py", "data/transforms/augmentation_impl.py")


@dataclass(frozen=True)
class Packages:
    """Installed versions, read without importing the packages."""

    python: tuple[int, int]
    versions: dict[str, str | None]  # None: not installed
    torchvision_needs: tuple[str, ...]  # such as "torch==2.14.1"
    detectron2: str | None  # its own version; None: not installed
    old_names: tuple[str, ...]  # patterns of _DROPPED that match in Detectron2's files
    has_pkg_resources: bool


@dataclass(frozen=True)
class Devices:
    """The operators and devices that torch sees."""

    has_nms: bool
    nms_on_gpu: bool  # also True without a GPU
    has_detectron2_operators: bool
    cuda_build: str | None  # the CUDA version that torch was built for
    gpus: tuple[tuple[str, int], ...]  # name and bytes of memory of each visible GPU
    has_mps: bool
    has_driver: bool  # an NVIDIA driver is loaded


def read_packages() -> Packages:
    """Read the versions of the packages of this Python."""
    spec = importlib.util.find_spec("detectron2")
    root = Path(next(iter(spec.submodule_search_locations))) if spec else None
    text = "".join((root / name).read_text() for name in _FILES_WITH_NAMES if (root / name).is_file()) if root else ""
    own = re.search(r'__version__ = "(.*?)"', (root / "__init__.py").read_text()) if root else None
    return Packages(
        python=sys.version_info[:2],
        versions={name: found.version if (found := _installed(name)) else None for name in _SHOWN},
        torchvision_needs=tuple(torchvision.requires or ()) if (torchvision := _installed("torchvision")) else (),
        detectron2=(own.group(1) if own else "unknown") if root else None,
        old_names=tuple(pattern for _, _, pattern, _ in _DROPPED if re.search(pattern, text)),
        has_pkg_resources=importlib.util.find_spec("pkg_resources") is not None,
    )


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def find_package_faults(packages: Packages) -> Iterator[Finding]:
    """Check the versions of the packages, without importing them."""
    for name in _NEEDED:
        if packages.versions[name] is None:
            yield finding("package-missing", name, f"{name} is not installed", f"pip install {name.lower()}")
    if packages.detectron2 is None:
        yield finding("package-missing", "detectron2", "Detectron2 is not installed")
    torch, torchvision = packages.versions["torch"], packages.versions["torchvision"]
    if torch is not None and torchvision is not None:
        ours, theirs = Version(torch), Version(torchvision)
        builds = {v.local for v in (ours, theirs) if v.local}  # "cpu", "cu126"
        needs = [Requirement(text) for text in packages.torchvision_needs]
        unmet = [need for need in needs if need.name == "torch" and not need.specifier.contains(ours.public, True)]
        fitting = ours.minor + _TORCHVISION_OFFSET
        belong_together = ours.major != 2 or theirs.major != 0 or theirs.minor == fitting
        if not belong_together or unmet or len(builds) > 1:
            what = f"torch {torch} and torchvision {torchvision} are not built for each other"
            what += f" (torchvision needs {unmet[0]})" if unmet else ""
            remedy = f"Install torchvision 0.{fitting}, from the index that torch came from."
            yield finding("torch-mismatch", "torchvision", what, remedy if ours.major == 2 else None)
    if packages.python >= _FIRST_UNTESTED_PYTHON:
        yield finding("python-untested", "Python", f"Python is {packages.python[0]}.{packages.python[1]}")
    for name, first, pattern, shown in _DROPPED:
        found = packages.versions[name]
        if found and pattern in packages.old_names and Version(found) >= Version(first):
            what = f"Detectron2 {packages.detectron2} uses {shown}, which {name} {found} lacks"
            yield finding("old-names", "detectron2", what)
    if not packages.has_pkg_resources:
        what = f"setuptools {packages.versions['setuptools'] or '(not installed)'} has no pkg_resources"
        yield finding("pkg-resources", "setuptools", what)


def read_devices() -> Devices:
    """Read what torch, torchvision and Detectron2 can do on this machine; all three must be importable."""
    import torch
    import torchvision

    gpus = tuple(
        (torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i).total_memory)
        for i in range(torch.cuda.device_count())
    )
    nms_on_gpu = True
    if gpus:
        box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device="cuda")
        try:
            torchvision.ops.nms(box, box[:, 3], 0.5)
        except (RuntimeError, NotImplementedError):
            nms_on_gpu = False
    return Devices(
        has_nms=hasattr(torch.ops.torchvision, "nms"),
        nms_on_gpu=nms_on_gpu,
        has_detectron2_operators=importlib.util.find_spec("detectron2._C") is not None,
        cuda_build=torch.version.cuda,
        gpus=gpus,
        has_mps=torch.backends.mps.is_available(),
        has_driver=Path("/proc/driver/nvidia/version").exists(),
    )


def find_device_faults(devices: Devices, device: str, *, deformable: bool) -> Iterator[Finding]:
    """Compare the devices and operators of this machine with those that a config needs.

    Args:
        device: MODEL.DEVICE.
        deformable: True if the backbone has deformable convolutions (MODEL.RESNETS.DEFORM_ON_PER_STAGE).
    """
    if not devices.has_nms or not devices.nms_on_gpu:
        where = "for the GPU" if devices.has_nms else "at all"
        yield finding("operator-missing", "torchvision", f"torchvision's nms is not compiled {where}")
    if not devices.has_detectron2_operators:
        if deformable:
            yield finding(
                "operator-missing",
                "MODEL.RESNETS.DEFORM_ON_PER_STAGE",
                "Detectron2's operators (detectron2._C) are not compiled, and deformable convolutions need them",
                "Install Detectron2 from source with a compiler, or set MODEL.RESNETS.DEFORM_ON_PER_STAGE to False.",
            )
        else:
            yield finding("detectron2-operators", "detectron2", "detectron2._C is not compiled")
    if device.startswith("cuda") and not devices.gpus:
        if devices.cuda_build is None:
            why = "torch was built without CUDA"
        else:
            why = f"torch (CUDA {devices.cuda_build}) sees no GPU"
        driver = "an NVIDIA driver is loaded" if devices.has_driver else "no NVIDIA driver is loaded"
        runs_on = "MPS" if devices.has_mps else "the CPU"
        yield finding(
            "no-gpu",
            "MODEL.DEVICE",
            f"MODEL.DEVICE is {device}, but {why} ({driver}): training runs on {runs_on}",
            None if devices.has_driver else "Set MODEL.DEVICE cpu, or train on a machine with a GPU.",
        )


def import_failure(error: Exception) -> Finding:
    """Return the finding for a failed import; the error's message gives the cause."""
    return finding("import-fails", "Python", str(error))
