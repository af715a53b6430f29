"""The service: settings, wiring, HTTP routes and use cases."""
