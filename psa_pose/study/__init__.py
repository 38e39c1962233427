"""Blocks compared over seeds at equal budget: the runs and what is made of them."""
