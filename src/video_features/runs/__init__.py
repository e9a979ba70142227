"""Which videos, in what order, and what is recorded."""
