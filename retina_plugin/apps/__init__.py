"""The programs built on the plugin. No other package imports from here."""
