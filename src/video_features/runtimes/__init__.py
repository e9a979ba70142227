"""What networks run in: PyTorch or OpenVINO, on which device, with how many threads."""
