"""A heap whose whole state lies in a segment's bytes (docs/heap.md)."""
