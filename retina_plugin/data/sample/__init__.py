"""The built-in sample set: digits on photographs."""
