"""offloop beside its peers, figure by figure: ``python -m tests.benchmarks``."""
