"""HTTP: the gate that every request passes, what routes share, conditions, ranges, parts of lists, and the document."""
