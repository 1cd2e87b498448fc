"""Where events go besides the logs; each is imported by its own name, and needs the library that it hands them to."""
