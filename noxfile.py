"""The checks with every supported Python, and with the oldest supported versions of the libraries.

    uvx nox --list
    uvx nox --session tests-3.12 lowest

nox uses uv if it is installed, which also installs missing versions of Python. `lowest` needs it.
"""

from __future__ import annotations

import nox

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)  # of the classifiers
# `dev` and what it does not contain.
EXTRAS = ".[demo,dev]"
QUICK = ("-m", "not processes and not slow")

nox.needs_version = ">=2025.2.9"  # the first with project.python_versions that was tried
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", f"tests-{PYTHONS[-1]}", "build"]
nox.options.reuse_venv = "yes"


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and mypy."""
    session.install("--editable", EXTRAS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, with the newest versions. Arguments after -- replace those of pytest."""
    session.install("--editable", EXTRAS)
    session.run("pytest", *(session.posargs or ("--dist", "loadscope", "--numprocesses", "3")))


@nox.session(python=PYTHONS[0], venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """The quick tests, with the oldest version of each library that pyproject.toml states."""
    extras = sorted(PROJECT["project"]["optional-dependencies"].keys() - {"dev", "docs"})
    session.install("--resolution", "lowest-direct", f".[{','.join(extras)}]")
    session.install("--editable", EXTRAS)  # the tools, and no newer version of what is there
    session.run("pytest", *(session.posargs or ("--dist", "loadscope", "--numprocesses", "2", *QUICK)))


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """The documentation; every warning is an error."""
    session.run("make", "docs", external=True)


@nox.session
def build(session: nox.Session) -> None:
    """The sdist and the wheel, in dist/, checked for the package index."""
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("bash", "-c", "twine check --strict dist/*", external=True)
