"""The calls by name: their arguments and answers as JSON or in frames, alike for routes and for batches."""
