"""Figures of a service: callers who give up, calls beside a map, and a web server under load."""
