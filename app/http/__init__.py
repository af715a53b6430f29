"""HTTP by itself: an exchange, ranges, entity tags, cursors, answers in pieces, strict JSON, security headers."""
