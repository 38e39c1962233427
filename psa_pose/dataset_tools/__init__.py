"""Check and browse a data set, and make person boxes for one."""
