"""Ways to decode fewer frames than all: from the middle of a file on, or at a low rate; exact, or not taken."""
