"""A test set, predicted and scored on all processes: results, pages, submissions to test servers."""
