"""A week of made-up work with everything going on, to look at the product without an agent."""
