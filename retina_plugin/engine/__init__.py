"""Former name of ``retina_plugin.training``."""
