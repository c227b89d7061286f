"""The specification's textbook flow, kept as the honest baseline of the bench: an ORM, one transaction a step, SERIALIZABLE
and retry. Written as a good engineer would write it (pool, indexes, parallel orders, one session to the PSP), and no more.
"""
