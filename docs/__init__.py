"""Scripts that render what the documents show."""
