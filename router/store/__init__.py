"""Where states, pairs and evidence are kept: keys, versioned records, the Redis client and the embedded server."""
