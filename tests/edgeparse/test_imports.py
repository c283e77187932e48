"""Importing the package is quick and loads no library before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import edgeparse
from tests.conftest import sample_files

HEAVY = ("torch", "onnxruntime", "PIL", "numpy", "rich", "click")


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, edgeparse; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_loads_no_inference_library_until_it_needs_one() -> None:
    libraries = ("onnxruntime", "tensorrt", "tensorrt_rtx", "cuda", "PIL", "platformdirs", "filelock")
    code = f"import sys, edgeparse.cli.main; print([m for m in {libraries!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["gallery", "--help"]])
def test_help_does_not_wait_for_numpy(arguments: list[str]) -> None:
    heavy = (*HEAVY[:-1], "jinja2", "filelock")
    code = (
        "import sys; from edgeparse.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False); print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_loads_neither_rich_nor_the_engine_code() -> None:
    unneeded = (
        "rich",
        "edgeparse.backends.tensorrt.build",
        "edgeparse.backends.tensorrt.backend",
        "edgeparse.backends.tensorrt.cuda",
        "importlib.resources",
    )
    code = (
        "import sys; from edgeparse.cli.main import main\n"
        f"main(['check', '--jsonl', '--backend', 'cpu', {str(sample_files()[0])!r}], standalone_mode=False)\n"
        f"print([m for m in {unneeded!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_import_time() -> None:
    code = "import time; begun = time.process_time(); import edgeparse; print(time.process_time() - begun)"
    done = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    # CPU time, and the best of three: other load on the machine is no fault of the package.
    assert min(done) <= 0.06


def test_runtime_imports_no_training_code() -> None:
    for path in Path(edgeparse.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.split(".")[0] not in {"torch", "training", "export", "engines", "benchmarks"}, path


def test_unknown_attribute() -> None:
    assert "Parser" in dir(edgeparse)
    assert not hasattr(edgeparse, "Classifier")


def _imports(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of this package that a file imports at run time, also lazily."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "edgeparse":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules or {node.module}
    return found - {"edgeparse"}


def test_no_module_imports_itself_through_others() -> None:
    root = Path(edgeparse.__file__).parent
    files = {
        ".".join(("edgeparse", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }
    graph = {module: _imports(path, set(files)) - {module} for module, path in files.items()}
    assert graph["edgeparse.parser"] >= {"edgeparse.windows", "edgeparse.postprocess"}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("edgeparse.errors") < order.index("edgeparse.parser")


def test_the_package_root_is_small() -> None:
    assert len(list(Path(edgeparse.__file__).parent.glob("*.py"))) <= 16
