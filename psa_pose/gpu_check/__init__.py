"""What this project promises of a GPU, or of several: measured line by line, each with its limit and PASS or FAIL."""
