"""What every strategy promises on every event loop: one suite, run over all of them by fixtures."""
