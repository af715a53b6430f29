"""Programs to read and run: `python -m examples.NAME` from the root of the repository."""
