"""Pictures and videos as pixels, upright where they say how they were held."""
