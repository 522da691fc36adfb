"""Rulers of the code: no import cycle, few helpers that are called once, no long file, no public name without a use."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from code_figures import measure  # noqa: E402
from file_table import PAGE, file_table  # noqa: E402

PACKAGES = [ROOT / name for name in ("retina_plugin", "retina_cli") if (ROOT / name).is_dir()]
FILES = {path: path.read_text(encoding="utf-8") for package in PACKAGES for path in sorted(package.rglob("*.py"))}
# Detectron2's code has 11 %, mmdetection's 8 %. A helper that is called once makes a reader jump.
MOST_CALLED_ONCE = 0.15
MOST_LINES = 500


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of the plugin that a file imports, in functions too; a package stands for its ``__init__``."""
    package = module_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    found = set()
    for node in ast.walk(ast.parse(FILES[path])):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else module for name in names}
    return {name for name in found if name in modules and name != module_name(path)}


def test_no_module_imports_itself_by_a_detour():
    modules = {module_name(path): path for path in FILES}
    edges = {name: imports(path, modules) for name, path in modules.items()}
    assert sum(map(len, edges.values())) > 300
    cycles, done = [], set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycles.append(" -> ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for other in sorted(edges[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in modules:
        visit(name, ())
    assert cycles == []


def test_few_private_functions_are_called_once():
    figures = measure(ROOT / "retina_plugin")[""]
    assert len(figures.function_lines) > 500
    assert figures.once_share <= MOST_CALLED_ONCE, "\n".join(figures.called_once)


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_no_file_is_long(path):
    assert len(FILES[path].splitlines()) <= MOST_LINES


def test_every_public_name_is_used_or_documented():
    """By another module, a program beside the package, a config or a page; a test alone is no use."""
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "configs").rglob("*.py"),
        ROOT / "train_net.py",
    ]
    programs = [*(ROOT / "tools").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    words = {
        path: set(re.findall(r"\w+", text))
        for path, text in {
            **FILES,
            **{p: p.read_text(encoding="utf-8") for p in [*pages, *programs] if p != PAGE},
        }.items()
    }
    unused = []
    for path, text in FILES.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                unused += [
                    f"{module_name(path)}.{name}"
                    for name in (item.value for item in node.value.elts if isinstance(item, ast.Constant))
                    if not any(name in found for other, found in words.items() if other != path)
                ]
    assert unused == []


def test_page_of_files_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == file_table(), "run python tools/file_table.py"
