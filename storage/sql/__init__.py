"""What SQL remembers: accounts, groups, tokens, quotas, and the audit journal."""
