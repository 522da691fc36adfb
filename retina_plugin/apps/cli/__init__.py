"""The commands of ``retina``, one a file."""
