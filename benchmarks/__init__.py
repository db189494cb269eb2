"""The benchmark suite: run.py is the entry, docs/benchmarks.md says what is measured and how."""
