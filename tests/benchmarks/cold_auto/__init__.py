"""Programs that start cold and let offloop choose."""
