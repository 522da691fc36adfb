#!/usr/bin/env python
"""Write docs/files.md, one row a module: its first sentence and the tests that import it.

python tools/file_table.py          # rewrites the page; a test compares it with the code
"""

import ast
from pathlib import Path

__all__ = ["file_table"]

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "files.md"
PACKAGES = ("retina_plugin", "retina_cli", "benchmarks")
HEAD = """# Files

Made by `python tools/file_table.py`; the packages and their imports are in [architecture.md](architecture.md).
"""


def file_table() -> str:
    """The text of the page: a heading for each package, a row for each module that has a docstring."""
    tests = {path: imported_modules(path) for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    rooms: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            summary = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            if not summary:
                continue
            relative = path.relative_to(ROOT)
            module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            named = [test.relative_to(ROOT / "tests") for test, modules in tests.items() if module in modules]
            cell = ", ".join(f"`{test}`" for test in named[:2]) + (f" and {len(named) - 2} more" if named[2:] else "")
            text = " ".join(summary.split()).replace("|", "\\|")
            rooms.setdefault(str(relative.parent), []).append(f"| `{path.name}` | {text} | {cell} |")
    parts = [
        f"## `{room}/`\n\n| file | what it does | tests that import it |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        for room, rows in rooms.items()
    ]
    return "\n".join([HEAD, *parts])


def imported_modules(path: Path) -> set[str]:
    """Every dotted name that a file imports from, and every "module.name" of its from-imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


if __name__ == "__main__":
    PAGE.write_text(file_table(), encoding="utf-8")
