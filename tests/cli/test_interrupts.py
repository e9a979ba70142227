"""Ctrl-C while a command still starts: one line and the status 130, wherever the interrupt arrives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Interrupts the process, as Ctrl-C does, when it is about to import a module.
INTERRUPT = """
import os, runpy, signal, sys
class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores Ctrl-C
sys.meta_path.insert(0, Finder)
sys.argv = {words!r}
{start}
"""
MODULE = "runpy.run_module('video_features', run_name='__main__', alter_sys=True)"
SCRIPT = "from video_features.__main__ import main; main()"
MAIN = f"runpy.run_path({str(ROOT / 'main.py')!r}, run_name='__main__')"


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("module", ["click", "numpy", "torch", "torch.nn", "timm"])
@pytest.mark.parametrize(
    ("start", "words"),
    [
        (MODULE, ["video-features", "extract", "timm", "missing.mp4", "--model-name", "tf_efficientnet_lite0"]),
        (SCRIPT, ["video-features", "extract", "timm", "missing.mp4", "--model-name", "tf_efficientnet_lite0"]),
        (MAIN, ["main.py", "feature_type=timm", "video_paths=missing.mp4", "model_name=tf_efficientnet_lite0"]),
    ],
    ids=["module", "script", "main.py"],
)
def test_an_interrupt_during_an_import_is_one_line(start: str, words: list[str], module: str, tmp_path: Path) -> None:
    code = INTERRUPT.format(module=module, words=words, start=start)
    environment = {**os.environ, "TORCH_HOME": str(tmp_path / "torch")}  # nothing is known of timm's networks there
    folder = tmp_path / "folder"
    folder.mkdir()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment)
    *first, last = run.stderr.splitlines()
    assert (run.returncode, last, run.stdout) == (130, "interrupted", "")
    # The first line comes before anything that takes seconds to import.
    has_begun = module not in ("click", "numpy")
    assert len(first) == has_begun and all("Extracting timm (tf_efficientnet_lite0)" in line for line in first)
    assert not list(folder.iterdir())


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_as_json_if_asked_for(tmp_path: Path) -> None:
    words = ["video-features", "extract", "timm", "missing.mp4", "--log-json"]
    code = INTERRUPT.format(module="click", words=words, start=MODULE)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (130, '{"event": "interrupted"}\n')
