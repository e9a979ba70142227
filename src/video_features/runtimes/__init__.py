"""Runtimes for networks: PyTorch or OpenVINO, with devices and thread pools."""

import sys

# When it is imported, OpenVINO sends usage data over the network from a forked process, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
