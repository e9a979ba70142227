"""Executors: run tasks in a thread, in processes, or on a Ray cluster."""
