"""Copy what the tests need from the project's oracle: python tests/golden/make_golden.py ../shared/oracle

The oracle holds the reference tool's own outputs (v-iashin/video_features, commit a2f61b7a4cf0) on stand-in weights,
see `tests/standin.py`. Of the two features of all 250 frames every fifth row is kept.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def main(oracle: Path) -> None:
    np.savez_compressed(HERE / "networks.npz", **np.load(oracle / "nets.npz"))

    thinned = {}
    for name, array in np.load(oracle / "pipelines.npz").items():
        _, case, key = name.split("|")
        is_feature = key == case.partition(":")[0]
        thinned[name] = array[::5] if is_feature and len(array) == 250 else array
    np.savez_compressed(HERE / "pipelines.npz", **thinned)

    for keys in (oracle / "keys").iterdir():
        (HERE / f"{keys.stem}_keys.json").write_text(json.dumps(json.loads(keys.read_text())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
