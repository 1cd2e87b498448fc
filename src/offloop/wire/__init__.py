"""The wire: how work and outcomes travel between processes."""
