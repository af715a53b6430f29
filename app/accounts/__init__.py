"""Accounts at work: whose token it is, how much an account may own and ask for, and what is written down of it."""
