"""The scores of benchmarks of judges, each as the benchmark itself defines it."""
