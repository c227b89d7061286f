"""The whole system in one thread on virtual time, from one seed: the product's own code among faults.

It may import the product, which nothing else of the simulator may: the PSP and the auditor stay strangers to us.
"""
