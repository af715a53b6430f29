"""What `everspaced simulate` reads and shows: files of costs, tables, plots. The simulation itself is the engine's."""
