"""Reads a family's `Settings` class from its source file without importing PyTorch.

A family is one file, so importing the file for its `Settings` also imports PyTorch, and a help page would take seconds.
This module executes only the statements that define `Settings`: the class, the statements that define or change the
names in the class, and, recursively, the statements that those need. Nothing is mocked: imports among these statements
are real. If PyTorch is one of them, the read takes longer but still works. Some side effects go unnoticed: changes
made by a decorator from another module, or by a call whose return value is assigned.

The resulting class serves the help and early validation. A run uses the class of the imported family, which is a
different object.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "Settings"
IMPORT = (ast.Import, ast.ImportFrom)
DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def read_settings(module: str) -> type[Any]:
    """Return the `Settings` class that `module` would define. Raises any exception that the statements raise."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    statements = required_statements(ast.parse(Path(spec.origin).read_bytes()).body)
    part = importlib.util.module_from_spec(spec)
    part.__name__ = f"{module}:{NAME}"  # not the real name: the module itself is imported later
    sys.modules[part.__name__] = part  # dataclasses and `get_type_hints` resolve annotations here
    exec(compile(ast.Module(statements, []), spec.origin, "exec", dont_inherit=True), part.__dict__)
    settings: type[Any] = getattr(part, NAME)
    typing.get_type_hints(settings)  # raises if a quoted annotation names something undefined
    return settings


def required_statements(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Select the module-level statements that `Settings` depends on, in their original order.

    Raises ValueError if a function changes a name that these statements define, because the source alone does not show
    whether the function is called.
    """
    names = {NAME, "annotations", "*"}  # `from __future__ import annotations` and star imports may affect Settings
    selected: set[ast.stmt] = set()
    while new := {node for node in statements if node not in selected and names.intersection(_defined_names(node))}:
        selected |= new
        names.update(name for node in new for name in _mentioned_names(node))
    defined = {name for node in selected if not isinstance(node, IMPORT) for name in _defined_names(node)}
    functions = (node for node in statements if isinstance(node, DEFINITION))
    if changed := defined.intersection(name for node in functions for name in _changed_names(node)):
        raise ValueError(f"changed by a function: {', '.join(changed)}")
    return [node for node in statements if node in selected]


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement defines or may change. Any name in a condition, loop or call may be changed."""
    if isinstance(statement, DEFINITION):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            yield from _mentioned_names(target)
    else:  # an import, a condition, a loop, a call …
        yield from _mentioned_names(statement)


def _mentioned_names(within: ast.AST) -> Iterator[str]:
    for node in ast.walk(within):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, DEFINITION):
            yield node.name


def _changed_names(within: ast.AST) -> Iterator[str]:
    """Yield names that are declared global, or whose values are modified in place: `x[0] = …`, `x.append(…)`."""
    for node in ast.walk(within):
        if isinstance(node, ast.Global):
            yield from node.names
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            node = node.value.func
        elif not isinstance(node, (ast.Attribute, ast.Subscript)) or isinstance(node.ctx, ast.Load):
            continue
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.value, ast.Name):
            yield node.value.id
