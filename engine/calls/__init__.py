"""The memory calls, one module each, on what a thread sees (Linux: mm/*.c)."""
