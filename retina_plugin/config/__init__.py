"""The config: its keys and defaults, reading YAML and overrides, rules for the values."""

from .keys import add_retina_config, get_retina_cfg

__all__ = ["add_retina_config", "get_retina_cfg"]
