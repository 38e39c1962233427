"""`scripts/reproduce.py`: the rows of the paper's pose tables, trained, tested and set beside the printed figures."""
