"""Startup imports: help pages and usage errors must not wait for heavy libraries."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from video_features import SettingsError, registry
from video_features.cli.main import cli
from video_features.registry import check_settings, resolve_settings
from video_features.settings.source import read_settings

MAIN = str(Path(__file__).parents[2] / "main.py")
MODULE = ("-m", "video_features")
HEAVY = {"torch", "torchvision", "timm", "open_clip", "av", "scipy", "PIL", "huggingface_hub"}


def imported(*arguments: str, status: int) -> tuple[str, set[str]]:
    """Run Python with these arguments. Return the printed text and the imported packages."""
    run = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True)
    lines = run.stderr.splitlines()
    times = [line for line in lines if line.startswith("import time:")]
    assert run.returncode == status, run.stderr
    assert any(line.endswith(" click") for line in times)  # otherwise -X importtime had no effect
    text = "\n".join([run.stdout, *(line for line in lines if line not in times)])
    return text, {line.rpartition("|")[2].strip().partition(".")[0] for line in times}


@pytest.mark.processes
def test_the_package_imports_no_networks() -> None:
    _, packages = imported("-c", "import video_features, click", status=0)
    assert "video_features" in packages and not packages & {*HEAVY, "numpy"}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((*MODULE, "--help"), "First steps"),
        ((*MODULE, "extract", "--help"), "torchvision_video"),
        ((*MODULE, "models"), "torchvision_video"),
        ((*MODULE, "status", "--help"), "OUTPUT_PATH"),
        ((*MODULE, "weights", "--help"), "fetch"),
        ((MAIN, "--help"), "feature_type=FEATURE"),
        *(((*MODULE, "extract", name, "--help"), "--weights") for name in registry.names()),
        ((*MODULE, "extract", "clip,r21d", "--help"), "--r21d.stack-size"),
    ],
)
def test_the_help_imports_no_networks(arguments: tuple[str, ...], expected: str) -> None:
    text, packages = imported(*arguments, status=0)
    assert expected in text and not packages & HEAVY


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((*MODULE, "extract", "resnett", "a.mp4"), "did you mean resnet?"),
        ((*MODULE, "extract", "resnet", "a.mp4", "--modle-name", "x"), "No such option"),
        ((*MODULE, "extract", "resnet"), "no videos"),
        ((*MODULE, "extract", "resnet", "--file-with-video-paths", "nowhere.txt"), "cannot be read"),
        ((*MODULE, "extract", "resnet", "a.mp4", "--batch-size", "two"), "batch_size must be a whole number"),
        ((*MODULE, "extract", "s3d", "a.mp4", "--stack-size", "5"), "s3d needs a stack_size of at least 13"),
        ((*MODULE, "extract", "i3d", "a.mp4", "--flow-type", "rft", "--dry-run"), "unknown i3d flow_type 'rft'"),
        ((*MODULE, "extract", "raft", "a.mp4", "--flow-dtype", "half"), "unknown flow_dtype 'half'"),
        ((*MODULE, "extract", "resnet", "a.mp4", "--layout", "mirror"), "must be given together"),
        ((*MODULE, "models", "resnett"), "did you mean resnet?"),
        ((*MODULE, "weights", "list", "resnett"), "did you mean resnet?"),
        ((MAIN, "feature_type=resnett", "video_paths=a.mp4"), "did you mean resnet?"),
        ((MAIN, "feature_type=resnet", "video_paths=a.mp4", "modle_name=x"), "did you mean model_name?"),
        ((MAIN, "feature_type=resnet", "video_paths=a.mp4", "batch_size=two"), "batch_size must be a whole number"),
        ((MAIN, "feature_type=resnet", "file_with_video_paths=nowhere.txt"), "cannot be read"),
    ],
)
def test_mistakes_are_told_before_networks_are_imported(arguments: tuple[str, ...], expected: str) -> None:
    text, packages = imported(*arguments, status=2)
    assert expected in text and not packages & HEAVY


@pytest.mark.processes
def test_no_family_imports_the_library_of_another() -> None:
    """Guard the separation of the libraries. The one exception: open_clip imports timm."""
    code = """
import sys
from video_features import registry
for name in sys.argv[1:]:
    registry.family(name)
    print(name, *sorted({"timm", "open_clip"} & set(sys.modules)))
"""
    others = set(registry.names()) - {"timm", "clip"}
    command = [sys.executable, "-c", code, *others, "timm", "clip"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = dict(line.partition(" ")[::2] for line in run.stdout.splitlines())
    assert len(others) >= 8 and found == {**dict.fromkeys(others, ""), "timm": "timm", "clip": "open_clip timm"}


def description(cls: type[Any]) -> list[Any]:
    """List everything that defines the settings and their options."""
    own = list(cls.__annotations__)
    return [(field.name, field.type, field.default, dict(field.metadata)) for field in dataclasses.fields(cls)] + own


@pytest.mark.parametrize("name", registry.names())
def test_settings_read_from_a_file_are_those_of_the_family(name: str) -> None:
    family = registry.family(name)
    found = read_settings(f"video_features.models.{name}")
    assert found is not family.Settings and description(found) == description(family.Settings)
    assert repr(found()) == repr(family.Settings())


def test_a_run_takes_the_settings_of_the_family_itself() -> None:
    check_settings(["r21d"], {"stack_size": "10"})
    _, chosen = resolve_settings(["r21d"], {"stack_size": "10"})
    assert type(chosen["r21d"]) is registry.family("r21d").Settings


HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from video_features.errors import SettingsError
from video_features.settings import FrameSettings, setting
"""
CLASS = """
@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    model_name: str = setting(NAMES[0], " or ".join(NAMES))
"""


def family_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """Register the feature `other` with a module of this text. Return the name of the module."""
    module = f"other_{abs(hash(text))}"
    (folder / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(registry._modules(), "other", module)
    return module


@pytest.mark.parametrize(
    "names",
    [
        "NAMES = ['a', 'b']",
        "NAMES = []\nfor name in 'ab':\n    NAMES.append(name)",
        "NAMES = ['a']\nNAMES += 'b'",
        "NAMES: list[str] = []\ndef fill(names):\n    names += 'ab'\nfill(NAMES)",
        "_TABLE = {}\n_TABLE['a'] = 1\n_TABLE.update(b=2)\nNAMES = list(_TABLE)",
        "try:\n    import nowhere\n    NAMES = ['c']\nexcept ImportError:\n    NAMES = ['a', 'b']",
        "if True:\n    from string import ascii_lowercase as letters\nNAMES = list(letters[:2])",
        "from string import *\nNAMES = list(ascii_lowercase[:2])",
    ],
)
def test_what_settings_are_made_by_is_executed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    text = f"{HEAD}\nimport no_such_library\nfrom no_such_library import Network\n{names}\n{CLASS}"
    module = family_file(tmp_path, monkeypatch, f"{text}\nclass Own(Network):\n    names = NAMES\n")
    field = dataclasses.fields(registry.settings("other"))[-1]
    assert (field.default, field.metadata["help"]) == ("a", "a or b")
    assert module not in sys.modules


@pytest.mark.parametrize(
    "text",
    [
        # Static analysis cannot know whether, or when, a function is called.
        *(
            f"{HEAD}\nNAMES = ['b', 'a']\ndef known(cls):\n    {change}\n@known\nclass a:\n    pass\n{CLASS}"
            for change in ("NAMES[:] = 'ab'", "NAMES.sort()", "global NAMES; NAMES = 'ab'")
        ),
        # A name that occurs only in a quoted annotation.
        f"{HEAD}\nfrom fractions import Fraction\nNAMES = ['a', 'b']\n{CLASS}    rate: 'Fraction' = setting(1, '')\n",
        # A Settings class without a class statement named Settings.
        f"{HEAD}\nNAMES = ['a', 'b']\n{CLASS.replace('Settings(', 'Own(')}\nglobals()['Settings'] = Own\n",
    ],
)
def test_where_that_does_not_tell_the_family_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    module = family_file(tmp_path, monkeypatch, text)
    settings = registry.settings("other")
    assert settings is sys.modules[module].Settings
    (field,) = (field for field in dataclasses.fields(settings) if field.name == "model_name")
    assert (field.default, field.metadata["help"]) == ("a", "a or b")


def test_a_family_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family_file(tmp_path, monkeypatch, "import no_such_library\nSettings = no_such_library.Settings\n")
    with pytest.raises(SettingsError, match=r"other: its package cannot be imported .*no_such_library"):
        registry.settings("other")
    assert "cannot be imported" in CliRunner().invoke(cli, ["extract", "other", "--help"]).stderr
