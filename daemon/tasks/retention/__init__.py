"""What is pruned when, and what is purged without a trace."""
