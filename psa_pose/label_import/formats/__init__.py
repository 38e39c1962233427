"""What label tools write, read: one form a file."""
