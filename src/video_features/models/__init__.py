"""The families, one module each. `CONTRIBUTING.md` describes how to add a family."""
