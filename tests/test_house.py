"""The package layout: layered folders, no import cycles, size limits."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import video_features

PACKAGE = Path(video_features.__file__).parent
# Top to bottom, as in CONTRIBUTING. A layer imports only lower layers. A subfolder belongs to the layer of its parent.
LAYERS = [
    "__main__",
    "cli",
    "__init__",
    "runs",
    "engines",
    "tasks",
    "registry",
    "models",
    "extraction",
    "networks",
    "outputs",
    "runtimes",
    "settings",
    "media",
    "weights",
    "features",
    "timeline",
    "locations",
    "cache",
    "signals",
    "errors",
]
MOST_FILES_AT_THE_TOP = 9
MOST_MODULES = 14
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 50


def modules(package: Path) -> dict[str, Path]:
    """{dotted name below the package: file}. A folder is named `folder.__init__`, the package itself `__init__`."""
    return {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}


def imports(package: Path) -> dict[str, set[str]]:
    """{module: imported modules of the package}. Imports inside functions count too."""
    known = modules(package)
    return {name: set(_imported(name, path, known)) for name, path in known.items()}


def _imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".")[1:] for alias in node.names if alias.name.startswith("video_features")]
            yield from (_module(target, known) for target in targets)
        elif isinstance(node, ast.ImportFrom):
            start = name.split(".")[: -node.level] if node.level else []
            if not node.level and (node.module or "").partition(".")[0] != "video_features":
                continue
            within = node.module.split(".") if node.module else []
            base = [*start, *(within if node.level else within[1:])]
            for alias in node.names:
                yield _module([*base, alias.name], known)


def _module(parts: list[str], known: dict[str, Path]) -> str:
    """Resolve a dotted name to a module. The last part may be a name defined in the module."""
    for end in (parts, parts[:-1]):
        for found in (".".join(end), ".".join([*end, "__init__"])):
            if found in known:
                return found
    raise AssertionError(f"no such module: {parts}")


def upward_imports(package: Path) -> list[str]:
    """List the imports of a higher layer by a lower layer."""
    return [
        f"{importer} imports {imported}"
        for importer, found in sorted(imports(package).items())
        for imported in sorted(found)
        if _layer(importer) != _layer(imported) and LAYERS.index(_layer(importer)) > LAYERS.index(_layer(imported))
    ]


def _layer(module: str) -> str:
    return module.partition(".")[0]


def cycle(package: Path) -> list[str]:
    """Return the modules of an import cycle, or an empty list."""
    graph, finished, path = imports(package), set[str](), list[str]()

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in finished:
            return []
        path.append(module)
        for imported in sorted(graph[module] - {module}):
            if found := visit(imported):
                return found
        finished.add(path.pop())
        return []

    return next(filter(None, map(visit, sorted(graph))), [])


def test_each_folder_imports_only_those_below_it() -> None:
    assert {_layer(module) for module in modules(PACKAGE)} == set(LAYERS)
    assert sum(map(len, imports(PACKAGE).values())) > 300, "too few imports were found to trust this check"
    assert upward_imports(PACKAGE) == []


def test_there_are_no_import_cycles() -> None:
    assert cycle(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "statement", "message"),
    [
        ("media/video.py", "from ..extraction.streams import Stream", "media.video imports extraction.streams"),
        ("outputs/rows.py", "from ..registry import family", "outputs.rows imports registry"),
        ("tasks/videos.py", "def late():\n    from ..runs import jobs", "tasks.videos imports runs.jobs"),
        ("errors.py", "from video_features.cache import digest", "errors imports cache"),
        ("settings/declare.py", "import video_features.runtimes.base", "settings.declare imports runtimes.base"),
    ],
)
def test_an_import_upwards_is_found(tmp_path: Path, module: str, statement: str, message: str) -> None:
    package = shutil.copytree(PACKAGE, tmp_path / "video_features", ignore=shutil.ignore_patterns("__pycache__"))
    with (package / module).open("a") as file:
        file.write(f"\n{statement}\n")
    assert upward_imports(package) == [message]


def test_a_cycle_within_a_folder_is_found(tmp_path: Path) -> None:
    package = shutil.copytree(PACKAGE, tmp_path / "video_features", ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "media" / "container.py").open("a") as file:
        file.write("\nfrom .file import MediaFile\n")
    found = cycle(package)
    assert found[0] == found[-1] and {"media.container", "media.file"} <= set(found)


def test_no_folder_module_or_function_is_too_long() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= MOST_FILES_AT_THE_TOP
    folders = {path.parent for path in modules(PACKAGE).values()}
    assert {folder.name: count for folder in folders if (count := _modules_of(folder)) > MOST_MODULES} == {}
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules(PACKAGE).items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    functions = {
        f"{name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, path in modules(PACKAGE).items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: count for name, count in functions.items() if count > MOST_LINES_OF_A_FUNCTION} == {}


def _modules_of(folder: Path) -> int:
    """The number of modules of a folder, without families: these are found by name, and there may be many."""
    return len([path for path in folder.glob("*.py") if folder.name != "models" or path.name.startswith("_")])


def test_every_folder_says_in_a_sentence_what_it_is_for() -> None:
    contributing = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folder in (path.parent for path in PACKAGE.rglob("__init__.py")):
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder
        assert folder == PACKAGE or f"{folder.name}/" in contributing, "the tree in CONTRIBUTING must name every folder"
