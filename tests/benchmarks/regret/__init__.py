"""How much time a choice costs beside the best that could have been chosen."""
