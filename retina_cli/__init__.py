"""The command line: ``retina COMMAND``, one module per command.

It stands beside the plugin, not in it: importing retina_plugin takes the seconds of torch and Detectron2, which
``--help`` and a mistyped option need not wait for. So a command imports retina_plugin in its ``run``, and nowhere else.
"""

__all__ = ["UsageError"]


class UsageError(ValueError):
    """A mistake in the arguments, found without retina_plugin. The message has the option, the rule and the remedy."""
