"""The rules of the house: floors, sizes, and who owns what."""

import ast
import statistics
import sys
from collections import Counter
from pathlib import Path

import pytest
from mutants import check_texts, mutants

HOME = Path(__file__).parents[1]
ROOT = HOME / "detector"
SOURCES = sorted(ROOT.rglob("*.py"))
TOOLS = sorted((HOME / "tools").rglob("*.py"))
FLOORS = [
    {
        "__init__",
        "structures",
        "coco_matching",
        "boxes",
        "command_line",
        "settings",
        "shipped",
        "signals",
        "yaml_text",
        "distributed",
        "errors",
        "files",
        "imported",
    },
    {"anchors"},
    {"data", "model", "loss", "postprocess"},
    {"config", "formats"},
    {"engine", "evaluation", "lab"},
    {"build", "report"},
    {"trained"},
    {"training", "export", "check", "prediction", "thresholds"},
    {"cli", "library"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
CODE_WORDS = {"sigmoid", "softmax"}
CODE_OWNERS = {"anchors/class_code.py", "loss/elementwise.py", "build.py"}


def imports(tree: ast.AST) -> set[str]:
    """Full dotted names; `from detector import loss` gives `detector.loss`."""
    plain = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert all(n.level == 0 for n in froms), "write imports in full, from detector.…"
    return plain | {f"{n.module}.{a.name}" for n in froms for a in n.names}


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length of each function, its docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            documented = len(text.splitlines()) if text else 0
            size = (node.end_lineno or node.lineno) - node.lineno + 1 - documented
            found.append((f"{path.name}:{node.name}", size))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room == "__init__":  # the door to all rooms, which imports none of them by itself
        return
    names = imports(ast.parse(path.read_text()))
    assert not {n for n in names if n.split(".")[0] in ("benchmarking", "tools")}
    others = {n.split(".")[1] for n in names if n.startswith("detector.")} - {room}
    others -= {"__version__"}
    wrong = {o for o in others if FLOOR[o] > FLOOR[room] or FLOOR[o] == FLOOR[room] > 0}
    assert not wrong, f"{path.name} reaches sideways or up: {sorted(wrong)}"


def test_no_two_modules_of_the_tests_have_one_name() -> None:
    """All their folders are on the path, where the second of a name is never imported."""
    names = Counter(path.name for path in (HOME / "tests").rglob("*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_files_are_short() -> None:
    long = {p.name: n for p in SOURCES + TOOLS if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_functions_are_short() -> None:
    sizes = [item for path in SOURCES + TOOLS for item in functions(path)]
    assert not [item for item in sizes if item[1] > 45]
    lengths = sorted(size for _, size in sizes)
    assert statistics.median(lengths) <= 9
    assert lengths[int(0.9 * len(lengths))] <= 26


def test_no_tool_shadows_a_standard_module() -> None:
    assert not {path.stem for path in TOOLS} & set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_class_code_knows_the_activation(path: Path) -> None:
    if str(path.relative_to(ROOT)) in CODE_OWNERS:
        return
    tree = ast.parse(path.read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not strings & CODE_WORDS


def test_every_mutant_has_its_text() -> None:
    """Exactly once, or `make mutants` would end before its first mutant."""
    check_texts(mutants(only=""))
