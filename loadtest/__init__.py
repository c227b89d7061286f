"""Buyers over gRPC: journeys under a profile, the client's own record of them, and the certificate and report at the end.

Invariant: what a buyer was told is written down by the buyer's side; nothing here reads the product's database or code.
"""
