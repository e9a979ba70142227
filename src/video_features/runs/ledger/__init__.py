"""Ledgers: records of the runs and of their outcomes, which are stored beside the outputs."""
