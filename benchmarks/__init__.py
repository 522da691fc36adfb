"""Times and memory of the plugin beside its peers': ``python -m benchmarks`` (docs/performance.md)."""
