"""What an administrator does to a data directory: check, repair, back up, restore, compact, migrate."""
