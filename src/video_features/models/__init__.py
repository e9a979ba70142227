"""The families, one module each. `CONTRIBUTING.md` says what a module defines; nothing else is edited to add one."""
