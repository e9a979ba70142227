"""Where the work runs: in a thread, in processes, or on a Ray cluster."""
