"""Where items execute: one file for each strategy, behind one protocol."""
