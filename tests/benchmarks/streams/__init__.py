"""Figures of streams: what they hold, how fast they are, how far they read ahead."""
