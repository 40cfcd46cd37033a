"""Where bundled weights come from: a recipe, a labelled folder in, weights and the record of their making out."""
