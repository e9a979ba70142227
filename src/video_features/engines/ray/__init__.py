"""The machines of a Ray cluster."""
