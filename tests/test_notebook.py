"""The notebook for Colab runs from top to bottom with the weights and the video of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.processes, pytest.mark.slow]

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "video_features_colab.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat  # here, because other tests should not wait for it
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)  # saved without them
    (install,) = (cell for cell in notebook.cells if "install" in cell.metadata.get("tags", []))
    assert "video_features[demo]" in install.source
    notebook.cells.remove(install)
    for cell in notebook.cells:  # OpenVINO would take several seconds to convert the network
        cell.source = cell.source.replace('output_path="features"', 'output_path="features", runtime="torch"')
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    rows = np.load(tmp_path / "features" / "timm" / "tf_efficientnet_lite0" / "bikes_timm.npy")
    assert rows.shape == (50, 1280)  # 10 s at 5 frames per second
    assert "(50, 1280) float32 0 to 9.8 s" in str(notebook.cells)
    assert "image/png" in notebook.cells[-1].outputs[-1].data
