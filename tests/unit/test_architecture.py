"""The house rules that a machine can hold: imports go one way, modules stay small, tops stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BATCH = ROOT / "batch"
MODULES = sorted(BATCH.rglob("*.py"))

# each layer may import those to the right of it, and its own
LAYERS = (
    ("cli", "options"),
    ("runtime",),
    ("stages",),
    (
        "calibration",
        "drizzling",
        "alignment",
        "photometry",
        "simulation",
        "isolation",
        "storage",
        "reporting",
        "archive",
        "references",
    ),
    ("config", "log", "compile"),
    ("model",),
    ("errors",),
)
ORDER = {name: number for number, names in enumerate(LAYERS) for name in names}
# two that are used side by side but must not know each other
STRANGERS = {("calibration", "drizzling"), ("drizzling", "calibration"), ("storage", "isolation")}
HEAVY = {
    "acstools",
    "astropy",
    "astroquery",
    "boto3",
    "botocore",
    "crds",
    "dask",
    "distributed",
    "drizzlepac",
    "matplotlib",
    "numba",
    "photutils",
    "scipy",
    "stwcs",
    "xarray",
}
# read by every command before anything is done, or in every task
LIGHT = {"__init__", "cli", "options", "config", "errors", "log", "model", "stages", "isolation"}


def layer(module: str) -> str:
    """``batch.stages.align`` -> ``stages``."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _top(tree) if top_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return found


def _top(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run at import, without those under TYPE_CHECKING."""
    return [s for s in tree.body if isinstance(s, (ast.Import, ast.ImportFrom))]


def own(path: Path) -> str:
    relative = path.relative_to(BATCH)
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(BATCH)))
def test_imports_go_one_way(path: Path) -> None:
    here = own(path)
    if here == "__init__":
        # the package itself hands on what is asked for, on first use
        return
    for name in imports(path):
        if not name.startswith("batch."):
            continue
        there = layer(name)
        if there in ("__version__", here):
            continue
        assert there in ORDER, f"{name}: which layer is that?"
        assert ORDER[there] >= ORDER[here], f"{here} imports {name}"
        assert (here, there) not in STRANGERS, f"{here} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(BATCH)))
def test_nothing_heavy_is_imported_at_the_top(path: Path) -> None:
    if own(path) not in LIGHT:
        return
    heavy = {n.split(".")[0] for n in imports(path, top_only=True)} & HEAVY
    assert not heavy


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(BATCH)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_half_of_the_modules_are_at_most_150_lines() -> None:
    lengths = sorted(len(p.read_text(encoding="utf-8").splitlines()) for p in MODULES)
    assert lengths[len(lengths) // 2] <= 150


def test_the_command_line_starts_without_the_libraries() -> None:
    """`acs-batch --help` answers at once."""
    code = f"import batch, batch.cli, sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_top_level_holds_what_it_should() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not listed:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed}
    wanted = {"batch", "containers", "tests", "k8s", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert {t for t in top if not t.startswith(".")} <= wanted


def test_the_readme_says_what_ci_runs() -> None:
    """CI takes the test command from the README, so that what users are told is what is tested."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line.strip() for line in lines if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith("acs-batch demo")
    assert "pytest" in commands[1]
