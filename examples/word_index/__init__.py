"""A word index made of pointers, kept in a segment and found again after the service was killed."""
