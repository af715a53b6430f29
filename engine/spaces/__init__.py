"""Spaces and segments: what has a name and lives apart from tasks."""
