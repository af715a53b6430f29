"""The routes, one module for each noun. Control routes are FastAPI routers; hot routes are ASGI handlers."""
