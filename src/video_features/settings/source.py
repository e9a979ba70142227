"""A family's settings, read from its file without importing what only its networks need.

A family is one file, so that importing it for its `Settings` imports PyTorch too, and its help page would take seconds.
Here only those statements of the file are executed that `Settings` is made by: the class, what defines or changes the
names in it, and what these need in turn. Nothing is imitated, as stand-ins for PyTorch would: the imports among these
statements are real ones, and where PyTorch is one of them, it only takes longer. Not seen is what is changed in
passing: by another module's decorator, or by a call whose value is kept.

The class is for the help, and to tell mistakes early. A run takes that of the family itself, which is another one.
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
    """The class `Settings` that a module of this name would define. Raises whatever stands in the way."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    statements = needed(ast.parse(Path(spec.origin).read_bytes()).body)
    part = importlib.util.module_from_spec(spec)
    part.__name__ = f"{module}:{NAME}"  # not the module's own, which is imported later
    sys.modules[part.__name__] = part  # where dataclasses and `get_type_hints` look for the names in annotations
    exec(compile(ast.Module(statements, []), spec.origin, "exec", dont_inherit=True), part.__dict__)
    settings: type[Any] = getattr(part, NAME)
    typing.get_type_hints(settings)  # raises where a name in an annotation's quotes was not found
    return settings


def needed(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Those of a module's statements that `Settings` is made by, in their order.

    Raises ValueError where a function changes what they made: whether it is called, they do not tell.
    """
    names = {NAME, "annotations", "*"}  # what is imported from __future__, or unnamed, may concern it
    taken: set[ast.stmt] = set()
    while new := {one for one in statements if one not in taken and names.intersection(_made(one))}:
        taken |= new
        names.update(name for one in new for name in _mentioned(one))
    made = {name for one in taken if not isinstance(one, IMPORT) for name in _made(one)}
    functions = (one for one in statements if isinstance(one, DEFINITION))
    if changed := made.intersection(name for one in functions for name in _changed(one)):
        raise ValueError(f"changed by a function: {', '.join(changed)}")
    return [one for one in statements if one in taken]


def _made(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement defines or, if it only mentions them, may change."""
    if isinstance(statement, DEFINITION):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            yield from _mentioned(target)
    else:  # an import, a condition, a loop, a call …
        yield from _mentioned(statement)


def _mentioned(within: ast.AST) -> Iterator[str]:
    for node in ast.walk(within):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.partition(".")[0]
        elif isinstance(node, DEFINITION):
            yield node.name


def _changed(within: ast.AST) -> Iterator[str]:
    """The names that are declared global, or whose values get other items or attributes: `x[0] = …`, `x.append(…)`."""
    for node in ast.walk(within):
        if isinstance(node, ast.Global):
            yield from node.names
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            node = node.value.func
        elif not isinstance(node, (ast.Attribute, ast.Subscript)) or isinstance(node.ctx, ast.Load):
            continue
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.value, ast.Name):
            yield node.value.id
