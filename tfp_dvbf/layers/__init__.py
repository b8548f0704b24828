"""The networks of a model: each layer returns one density, or what densities are made of."""
