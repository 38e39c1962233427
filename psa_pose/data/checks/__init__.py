"""Facts of a user's data that must agree, compared on the arrays: labels, boxes, pictures."""
