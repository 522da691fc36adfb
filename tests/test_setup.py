"""The set-up: what `make setup` installs, what `pip install` must leave alone, and what continuous integration runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PIN = re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[0-9][\w.]*)(?: --hash=sha256:[0-9a-f]{64}| ; .+)?")


def read_requirements(path: Path) -> list[str]:
    """Its lines without comments and blank lines."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def project_name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


def setup_arguments() -> dict[str, ast.expr]:
    """The keyword arguments of setup.py's call of setup()."""
    calls = [node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "setup"]
    return {keyword.arg: keyword.value for keyword in call.keywords}


def test_lock_pins_every_line():
    requirements = read_requirements(LOCK)
    assert len(requirements) > 40
    assert [line for line in requirements if not PIN.fullmatch(line)] == []


def test_lock_holds_every_direct_requirement():
    locked = read_requirements(LOCK)
    direct = read_requirements(ROOT / "requirements.in")
    assert direct and {project_name(line) for line in direct} <= {project_name(line) for line in locked}
    pinned = {line for line in direct if "==" in line}
    assert pinned and pinned <= set(locked)


def test_lock_keeps_pkg_resources_for_detectron2():
    (version,) = [line.split("==")[1] for line in read_requirements(LOCK) if line.startswith("setuptools==")]
    assert int(version.split(".")[0]) < 81  # 81 dropped pkg_resources, which Detectron2's model_zoo imports


def test_lock_hashes_the_redistribution_of_detectron2():
    (line,) = [line for line in read_requirements(LOCK) if "detectron2" in line]
    assert re.fullmatch(r"sal-detectron2==0\.7\.2 --hash=sha256:[0-9a-f]{64}", line)


@pytest.mark.parametrize("name", ["requirements.in", "requirements.lock", "tools/setup_env.sh", "Makefile", "setup.py"])
def test_setup_names_no_host_and_no_index(name):
    text = (ROOT / name).read_text()
    assert text
    assert re.search(r"://|--(?:extra-)?index-url|--find-links|\.(?:org|com|net|io)\b", text, re.IGNORECASE) is None


def test_setup_py_requires_nothing():
    """pip must not replace the torch, torchvision or Detectron2 that a user has."""
    arguments = setup_arguments()
    assert "install_requires" not in arguments
    extras = ast.literal_eval(arguments["extras_require"])
    assert extras
    names = {project_name(line) for group in extras.values() for line in group}
    assert not [name for name in names if name.startswith("torch") or "detectron2" in name]


def test_setup_py_version_is_the_package_version():
    version = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--version"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    assert f'__version__ = "{version}"' in (ROOT / "retina_plugin" / "__init__.py").read_text()


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "exec make test </dev/null"


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_code_passes_ruff(command):
    pytest.importorskip("ruff")
    result = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, f"`make format` mends most of it\n{result.stdout}{result.stderr}"
