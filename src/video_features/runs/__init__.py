"""Runs: schedule many videos, record their outcomes, and report the progress."""
