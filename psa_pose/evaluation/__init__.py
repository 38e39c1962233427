"""A test set through a network on all processes, its scores, its files and its page."""
