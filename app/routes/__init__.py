"""What all routes share: who calls, strict bodies, conditions, lists in parts, and routes of bytes."""
