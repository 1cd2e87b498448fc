"""What fits offloop to other libraries, with those libraries."""
