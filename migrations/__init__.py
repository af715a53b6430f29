"""Alembic migrations of the SQL accounts."""
