"""The async twins: the same names, the same parameters, every call awaited."""
