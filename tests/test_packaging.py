"""The sdist and the wheel: what they contain, and that the wheel works in an environment of its own."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from pathlib import Path

import numpy as np
import pytest

from video_features import __version__, registry

pytestmark = [pytest.mark.processes, pytest.mark.slow]

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, folder: Path) -> str:
    """Run a command without the paths of this test run, and return its standard output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, folder=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode())


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a new environment that has the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    builder.create(folder)
    programs = Path(builder.ensure_directories(folder).bin_path)
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")  # its own pip would take seconds to install
    run(*pip, "install", "--no-deps", "--no-index", wheel, folder=folder)
    # Python does not read .pth files there, and so does not find the editable install of this environment.
    where = run(programs / "python", "-c", "import site; print(site.getsitepackages()[0])", folder=folder).strip()
    dependencies = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    Path(where, "dependencies.pth").write_text("\n".join(dependencies), encoding="utf-8")
    return programs


def test_the_wheel_contains_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    expected = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == {name for name in expected if "__pycache__" not in name}
    assert "video_features/py.typed" in found


def test_the_sdist_contains_what_the_tests_need(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = ("LICENSE", "README.md", "CONTRIBUTING.md", "main.py", "pyproject.toml", "tests/conftest.py")
    assert names.issuperset(needed) and any(name.startswith("tests/golden/") for name in names)
    assert not [name for name in names if name.startswith((".venv", "dist", "output", "shared"))]


def test_extras_are_documented_under_their_names(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra", []))
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == extras
    named = {
        extra
        for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py"))
        for extras in re.findall(r"(?:video_features|whl|'\.|\"\.)\[([a-z,]+)\]", path.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert {"demo", "openvino", "remote"} <= named <= extras


def test_one_version_everywhere(metadata: Message) -> None:
    assert metadata["Version"] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{__version__}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_commands_of_the_wheel_run(programs: Path, tmp_path: Path) -> None:
    code = "import video_features; print(video_features.__file__)"
    imported = Path(run(programs / "python", "-c", code, folder=tmp_path).strip())
    assert imported.is_relative_to(programs.parent)
    assert run(programs / "video-features", "--version", folder=tmp_path).split()[-1] == __version__
    assert "Turn videos into features." in run(programs / "video-features", "--help", folder=tmp_path)
    listed = run(programs / "video-features", "models", folder=tmp_path)
    assert {line.split()[0] for line in listed.splitlines() if line} >= set(registry.names())


def test_the_wheel_extracts(programs: Path, bikes: Path, tmp_path: Path) -> None:
    settings = ("--model-name", "tf_efficientnet_lite0", "--extraction-total", "4", "--runtime", "torch")
    run(programs / "video-features", "extract", "timm", bikes, *settings, "--device", "cpu", folder=tmp_path)
    (saved,) = tmp_path.rglob("bikes_timm.npy")
    features = np.load(saved)
    assert features.shape == (4, 1280) and features.dtype == np.float32 and features.std() > 0
