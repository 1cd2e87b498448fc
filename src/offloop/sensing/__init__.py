"""Senses: what the host, the environment and the work are like."""
