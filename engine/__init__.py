"""The simulated memory management: pure, single-threaded, without I/O, clock or thread.

Start reading at `machine.py` (every call), then `address_space.py` (regions and their owner), `union.py` (what a
thread sees), `memory_object.py` (who keeps the bytes) and `check.py` (what must always hold).
"""
