"""Real processes that crash, hang, lie or are killed, and what callers see of it."""
