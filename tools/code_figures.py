#!/usr/bin/env python
"""Print the size and shape of the code, one row per package: ``python tools/code_figures.py [FOLDER ...]``.

The columns: files, lines, median / 90 % / longest length of a file and of a function (without its docstring),
functions, private functions (named _x), those whose name occurs once more in their module, their share of all
functions, public top-level names and files that name ``cfg``. ``--once`` lists the functions that are called once,
``--keys`` counts the config keys that the plugin adds to Detectron2's and the subcommands of ``retina``.
"""

import argparse
import ast
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

__all__ = ["Figures", "measure", "print_table"]


@dataclass
class Figures:
    """Counts over the files of one package."""

    file_lines: list[int] = field(default_factory=list)
    function_lines: list[int] = field(default_factory=list)
    private: int = 0
    called_once: list[str] = field(default_factory=list)  # "file.py:name"
    public: int = 0
    naming_cfg: int = 0

    def add(self, path: Path) -> None:
        """Count one file."""
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        self.file_lines.append(len(text.splitlines()))
        occurrences = Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Name | ast.Attribute)
        )
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            self.function_lines.append(length_without_docstring(node))
            if node.name.startswith("_") and not node.name.startswith("__"):
                self.private += 1
                if occurrences[node.name] <= 1:
                    self.called_once.append(f"{path.name}:{node.name}")
        top = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        self.public += sum(isinstance(node, top) and not node.name.startswith("_") for node in tree.body)
        self.naming_cfg += re.search(r"\bcfg\b", text) is not None

    @property
    def once_share(self) -> float:
        """Private functions called once, as a share of all functions; 0 for none."""
        return len(self.called_once) / max(len(self.function_lines), 1)


def length_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from ``def`` to its end, less those of its docstring."""
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= first.end_lineno - first.lineno + 1
    return lines


def measure(folder: Path) -> dict[str, Figures]:
    """The figures of a package: "" for the whole of it, then one entry for each folder and for its own files (".")."""
    rooms: dict[str, Figures] = {"": Figures()}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts[:-1]
        room = "/".join(parts[:2] if parts[:1] == ("apps",) else parts[:1]) or "."
        for name in ("", room):
            rooms.setdefault(name, Figures()).add(path)
    return rooms


def print_table(folder: Path) -> None:
    """Print the rows of one package."""
    print(f"{'code':24}  files   lines  file med/90%/max     fn  fn med/90%/max  private  once  once/fn  public  cfg")
    for name, f in measure(folder).items():
        print(
            f"{folder.name + '/' + name if name else folder.name:24} {len(f.file_lines):6} {sum(f.file_lines):7}  "
            f"{spread(f.file_lines):>16} {len(f.function_lines):6}  {spread(f.function_lines):>14} {f.private:8} "
            f"{len(f.called_once):5} {f.once_share:8.0%} {f.public:7} {f.naming_cfg:4}"
        )


def spread(lengths: list[int]) -> str:
    """ "median / 90 % / longest" of some lengths."""
    if not lengths:
        return "-"
    if len(lengths) == 1:
        lengths = lengths * 2
    tenths = quantiles(lengths, n=10, method="inclusive")
    return f"{tenths[4]:.0f}/{tenths[8]:.0f}/{max(lengths)}"


def count_added_keys() -> int:
    """Leaf keys of the plugin's config that Detectron2's config lacks."""
    from detectron2.config import CfgNode, get_cfg

    from retina_plugin import get_retina_cfg

    def leaves(node: CfgNode, prefix: str = "") -> set[str]:
        found = set()
        for key, value in node.items():
            found |= leaves(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else {prefix + key}
        return found

    return len(leaves(get_retina_cfg()) - leaves(get_cfg()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("retina_plugin")], help="(retina_plugin)")
    parser.add_argument("--once", action="store_true", help="list the private functions that are called once")
    parser.add_argument(
        "--keys", action="store_true", help="count config keys and subcommands too (imports the plugin)"
    )
    args = parser.parse_args()
    for folder in args.folders:
        print_table(folder)
        if args.once:
            print("\n".join(measure(folder)[""].called_once))
    if args.keys:
        print(f"config keys added: {count_added_keys()}")


if __name__ == "__main__":
    main()
