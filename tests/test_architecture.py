"""Imports run one way, packages stay small, and functions stay short."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("edgeparse", "training", "export", "engines", "benchmarks")
# What each package must not import.
FORBIDDEN = {
    "edgeparse": {"torch", "training", "export", "engines", "benchmarks", "tests"},
    "training": {"engines", "benchmarks", "tests"},
    "export": {"engines", "benchmarks", "tests"},
    "engines": {"torch", "benchmarks", "tests"},
    "benchmarks": {"tests"},
}
MOST_MODULES = {"edgeparse": 16, "training": 5}
MOST_LINES = 60


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(tree: ast.AST, modules: Container[str] = ()) -> Iterator[str]:
    """Every module that a tree imports, and every name from a module, which may be a module too.

    A package from which only `modules` are imported is left out: its own `__init__` is not what the importer needs.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if not all(name in modules for name in names):
                yield node.module
            yield from names


def at_import_time(tree: ast.Module) -> ast.Module:
    """A module without the bodies of functions and without what only type checkers read."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, _node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, _node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)

    stripped = Strip().visit(tree)
    assert isinstance(stripped, ast.Module)
    return stripped


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    for path in sources(package):
        found = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))} & FORBIDDEN[package]
        assert not found, f"{path} imports {', '.join(sorted(found))}"


def test_no_import_cycles() -> None:
    modules = {module_name(path): path for package in PACKAGES for path in sources(package)}
    graph = {
        name: {other for other in imported(at_import_time(ast.parse(path.read_text())), modules) if other in modules}
        - {name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, stack: list[str]) -> None:
        assert name not in stack, f"import cycle: {' -> '.join([*stack[stack.index(name) :], name])}"
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, [*stack, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("package", MOST_MODULES)
def test_package_roots_stay_small(package: str) -> None:
    modules = [path.name for path in (ROOT / package).glob("*.py") if not path.name.startswith("__")]
    assert len(modules) <= MOST_MODULES[package], f"move modules of {package}/ into a subpackage: {modules}"


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_stay_short(package: str) -> None:
    long = []
    for path in sources(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines")
    assert not long, "\n".join(long)
