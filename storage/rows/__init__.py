"""The bytes of every row, each kind in a module. docs/format.md shows them as tables."""
