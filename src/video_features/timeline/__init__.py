"""Which frames or samples, and which of them together: arithmetic on exact times."""
