"""Lanes, the workers and threads behind them, and who may use them when."""
