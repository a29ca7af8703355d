"""Money and tokens: from transcripts to the store, exactly once."""
