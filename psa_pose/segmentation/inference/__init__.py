"""A network asked about pictures: the protocols, `Segmenter`, files for other programs."""
