"""PSPs as we see them: the gateway with breaker and line, and a folder for each dialect."""
