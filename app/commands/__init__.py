"""The commands of `everspaced`, one module each with `add_to` (options) and `run`."""
