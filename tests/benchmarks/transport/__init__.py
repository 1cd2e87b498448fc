"""How fast large data travels, what it takes of memory, what it leaves behind."""
