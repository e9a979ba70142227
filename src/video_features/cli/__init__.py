"""The command lines, and the reports that they print."""
