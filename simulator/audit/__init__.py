"""The independent auditor: judges the product from outside, by sources that share no code with it.

Where to read:

* `checks.py`: the one table of what is checked; `check_*.py`: the checks themselves, each a small function.
* `database.py`, `book.py`, `client.py`, `settlement.py`: the four sources (SQL rows, the PSP's truth, what the load test
  wrote down, the PSP's settlement file). `evidence.py`: all of them together. `format.py`: the client's journal, line by line.
* `match.py`: delivered settlement lines against orders and the PSP's book, as the auditor matches them.
* `card.py`: card numbers in text. `money.py`: minor units of two worlds.
* `heads.py`, `chain.py`: heads of the slots' logs kept outside the database, and the command that verifies the logs with them.
* `report.py`, `__main__.py`: the verdict and the command. `damage.py`: planted damage, to prove that the checks see it.

Imports nothing of ours: no zerosum, actors, servers, loadtest, simulator.psp. Even the table of order states is a copy of
what the documents print. The invariant: a check that could not be made is never reported as held.
"""
