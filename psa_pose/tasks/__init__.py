"""The tasks that can be trained and tested."""
