"""Logits and label maps in, one number out; what a loss is a mean over is summed over parts and processes."""
