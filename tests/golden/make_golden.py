"""Copy what the tests need from the project's oracle: python tests/golden/make_golden.py ../shared/oracle

The oracle holds the reference tool's own outputs (v-iashin/video_features, commit a2f61b7a4cf0) on stand-in weights,
see `tests/standin.py`. Of the two features of all 250 frames every fifth row is kept.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FAMILIES = ("resnet", "timm", "clip", "r21d", "s3d", "i3d", "raft", "pwc")
NETWORKS = ("resnet", "clip", "r2plus1d", "s3d", "i3d", "raft", "pwc")


def main(oracle: Path) -> None:
    networks = np.load(oracle / "nets.npz")
    kept = {name: networks[name] for name in networks.files if name.startswith(NETWORKS)}
    np.savez_compressed(HERE / "networks.npz", **kept)

    pipelines = np.load(oracle / "pipelines.npz")
    kept = {}
    for name in pipelines.files:
        _, case, key = name.split("|")
        if case.startswith(FAMILIES):
            array = pipelines[name]
            kept[name] = array[::5] if key in FAMILIES and len(array) == 250 else array
    np.savez_compressed(HERE / "pipelines.npz", **kept)

    for family in ("resnet", "clip", "r21d", "s3d", "i3d", "raft", "pwc"):
        keys = json.loads((oracle / "keys" / f"{family}.json").read_text())
        (HERE / f"{family}_keys.json").write_text(json.dumps(keys))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
