"""The data plane: one event loop that carries bytes. Nothing here waits for the store, the judge or a copy."""
