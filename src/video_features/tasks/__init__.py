"""One video: what its outputs are called, whether they are done, and how they are made."""
