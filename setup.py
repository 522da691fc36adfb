"""Installs the plugin and its command line, beside the torch, torchvision and Detectron2 that are already there.

None of the three is a requirement: pip would replace a build that fits the machine's GPU and compiler.
``make setup`` makes a complete environment instead.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
INIT = ROOT / "retina_plugin" / "__init__.py"

setup(
    name="retina_plugin",
    version=re.search(r'^__version__ = "([^"]+)"', INIT.read_text(), re.MULTILINE).group(1),
    description="RetinaNet and the focal loss as a plugin for Detectron2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords=["detectron2", "focal loss", "object detection", "RetinaNet"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.10",
    # configs/ becomes data of the package, so that an installed plugin has it too: retina_plugin/config/shipped.py.
    packages=[*find_packages(include=["retina_cli", "retina_plugin*"]), "retina_plugin.configs"],
    package_dir={"retina_plugin.configs": "configs"},
    package_data={
        "retina_plugin.apps": ["*/*.j2", "*/*.css", "*/*.js", "*/*.csv"],
        "retina_plugin.configs": ["**/*.yaml", "**/*.py", "**/*.md"],
    },
    entry_points={"console_scripts": ["retina = retina_cli.main:main"]},
    extras_require={
        "sample": ["scikit-learn"],
        "draw": ["opencv-python-headless"],
        "export": ["onnx", "onnxruntime", "onnxscript", "safetensors"],
        "evaluation": ["hotcoco>=1.3", "jinja2", "matplotlib"],
        "study": ["scipy", "matplotlib", "jinja2"],
        "tensorboard": ["tensorboard"],
        "test": ["hypothesis", "pytest", "pytest-xdist", "ruff"],
    },
)
