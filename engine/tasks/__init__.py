"""Tasks, their threads, and the address spaces that they have of their own: views and slots."""
