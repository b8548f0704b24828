"""A model without its Python: the signatures and files of a SavedModel."""
