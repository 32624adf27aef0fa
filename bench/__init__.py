"""Performance and decision-quality benchmarks: `python -m bench.NAME --json`."""
