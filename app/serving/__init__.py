"""Being a server: sockets, TLS, slow clients, the time before the store is open, logs, metrics and traces."""
