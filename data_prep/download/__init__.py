"""Getting the input: from NLM, from a mirror, from PMC's bucket, or invented on the spot."""
