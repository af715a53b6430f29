"""Alembic migrations of the accounts. Shipped with the server, and run by it at every start."""
