"""Which videos are done, in what order, by whom, and what is recorded of it."""
