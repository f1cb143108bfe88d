"""What the counters say: pure functions from evidence to judgements."""
