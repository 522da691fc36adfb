"""The programs built on the plugin. Nothing in the other rooms imports from here."""
