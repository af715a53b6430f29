"""Everspace: persistent first-class virtual address spaces, from Python."""
