"""Pages, plots and pictures of all programs."""
