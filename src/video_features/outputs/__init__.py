"""Sinks for features: `.npy` and `.pkl` files, object stores, or nothing; with records of provenance."""
