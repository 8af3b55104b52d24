"""From NLM's files to tokenized shards in object storage. Knows nothing of training."""
