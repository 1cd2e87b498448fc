"""Figures of branches and of the doors into other libraries."""
