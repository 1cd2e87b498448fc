"""Figures of what happens when work is cancelled, when workers die, and when their parent does."""
