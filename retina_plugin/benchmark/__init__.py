"""Times and memory of the plugin beside its peers': ``python -m retina_plugin.benchmark`` (docs/performance.md)."""
