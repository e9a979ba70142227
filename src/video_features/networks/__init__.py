"""The PyTorch networks of the families, and how each loads its checkpoint. Families import them inside functions."""
