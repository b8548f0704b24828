"""What can be asked of a model and its posterior: bounds, particle filter, exact answers."""
