"""What remembers: the LMDB store of pages and the SQL accounts."""
