"""Stars in drizzled mosaics: found once, measured at every pixfrac."""
