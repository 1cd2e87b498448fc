"""The bench: which strategy, worker count and chunk size suit a function on this machine, and whether `auto` finds them."""
