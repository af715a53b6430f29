"""The regions of one owner, a task or a space: where they lie, how they split, merge, move and grow."""
