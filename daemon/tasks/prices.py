"""What a model costs when, in picodollars per token."""
