"""Figures of what it costs to be watched: progress, metrics, spans."""
