"""The doors: a gRPC server per service, the HTTP edge, what frames them, and the CLI."""
