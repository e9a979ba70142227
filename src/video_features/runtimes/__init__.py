"""Runtimes for networks: PyTorch or OpenVINO, with devices and thread pools."""
