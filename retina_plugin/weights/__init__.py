"""Weight files to state dicts and back, and what weights mean besides shapes."""
