"""A float graph in, an INT8 graph out: ranges, thresholds, Q/DQ pairs, and what helps them."""
