"""Families of features that cost nothing, for tests of what comes before a network."""
