"""Tasks: the videos of a run, the names of their outputs, and the extraction of a single video."""
