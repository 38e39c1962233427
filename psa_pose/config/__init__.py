"""The schema of every option, and how a file and a command line become one frozen config."""
