"""The calls of the machine, by subject. Each class is a part of `engine.machine.Machine`."""
