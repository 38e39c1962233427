"""Drawn people: a data set in COCO's layout that needs no download."""
