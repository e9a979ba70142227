"""What is written for a video, whole or not at all, and what counts as written already."""
