"""Selects frames and samples, and groups them into windows, with exact arithmetic on times."""
