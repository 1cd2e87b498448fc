"""The workloads that decided what offloop was built for."""
