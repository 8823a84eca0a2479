"""The structure of the package in numbers: import cycles, arrows up, imports inside functions, modules, lines.

    python scripts/structure.py [FOLDER]     # a checkout, this one when not given

The layers are those of the import contract (.importlinter). Imports for type checkers count like any other.
"""

from __future__ import annotations

import ast
import configparser
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "evalkit"
LONGEST = 12  # modules of a cycle that are named


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module below the package."""
    files = sorted((root / PACKAGE).rglob("*.py"))
    names = {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    return dict(sorted(names.items()))


def imports_of(name: str, file: Path, known: set[str]) -> Iterator[tuple[str, bool]]:
    """(imported module of the package, whether the import stands inside a function)."""

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for target in _targets(node, known):
            yield target, inside
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    for target, inside in visit(ast.parse(file.read_text(encoding="utf-8")), False):
        if target != name:
            yield target, inside


def _targets(node: ast.AST, known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in known)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            if full in known or node.module in known:
                yield full if full in known else node.module


def inner_imports(file: Path) -> int:
    """Statements `import ...` and `from ... import` inside functions, of any package."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return len({n.lineno for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)})


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972, doi:10.1137/0201010)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def connect(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                connect(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                components.append(sorted(component))

    sys.setrecursionlimit(10_000)
    for node in graph:
        if node not in index:
            connect(node)
    return sorted(components, key=len, reverse=True)


def layers(root: Path) -> list[list[str]]:
    """The layers of the contract, highest first: names of modules and packages below the package."""
    parser = configparser.ConfigParser()
    parser.read(root / ".importlinter", encoding="utf-8")
    text = parser["importlinter:contract:layers"]["layers"]
    return [[part.strip(" ()") for part in line.split("|")] for line in text.strip().splitlines()]


def layer_of(name: str, order: list[list[str]]) -> int | None:
    """The number of a module's layer from the top; None for the package itself."""
    part = name.split(".")[1] if "." in name else ""
    return next((number for number, parts in enumerate(order) if part in parts), None)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
    files = modules_of(root)
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        graph[name] = {target for target, _ in imports_of(name, file, set(files))}
    circles = cycles(graph)
    print(f"import cycles {len(circles)}")
    for circle in circles:
        print(f"  {len(circle)}: {', '.join(circle[:LONGEST])}{', ...' if len(circle) > LONGEST else ''}")
    between = {
        (a.split(".")[1], b.split(".")[1]) for a, others in graph.items() for b in others if "." in a and "." in b
    }
    pairs = sorted((a, b) for a, b in between if a < b and (b, a) in between)
    print(f"packages that import each other {len(pairs)}{': ' if pairs else ''}{', '.join('/'.join(p) for p in pairs)}")
    order = layers(Path(__file__).resolve().parents[1])
    up = []
    for name, others in graph.items():
        own = layer_of(name, order)
        for other in sorted(others):
            its = layer_of(other, order)
            if own is not None and its is not None and its < own:
                up.append(f"  {name} -> {other}")
    print(f"arrows up {len(up)}", *up, sep="\n")
    inner = Counter({name: inner_imports(file) for name, file in files.items()})
    by_package: Counter[str] = Counter()
    for name, count in inner.items():
        by_package[name.split(".")[1] if name.count(".") > 1 else f"{name.split('.')[-1]}.py"] += count
    outside = sum(count for package, count in by_package.items() if package != "commands")
    counts = ", ".join(f"{package} {count}" for package, count in by_package.most_common() if count)
    print(f"imports inside functions {sum(inner.values())}, outside commands/ {outside} ({counts})")
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files.values())
    print(f"modules {len(files)}, lines {lines}")


if __name__ == "__main__":
    main()
