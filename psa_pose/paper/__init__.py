"""The tables of the PSA paper: their complexity, their rows trained and tested, and a study of blocks."""
