"""The config: its keys and defaults, reading YAML and overrides, rules for the values."""

__all__ = ["add_retina_config", "get_retina_cfg"]


def __getattr__(name: str):  # keys import Detectron2, which `retina configs` and `study list` need not wait for
    if name not in __all__:
        raise AttributeError(name)
    from . import keys

    return getattr(keys, name)
