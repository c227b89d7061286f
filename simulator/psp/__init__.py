"""The PSP that misbehaves on a plan: its own process, its own book, nothing of ours imported.

Where to read:

* `engine.py`: one API call from top to bottom (faults, key, execution, book). No socket, no clock, no file.
* `faults.py`: what goes wrong, drawn from the seed. `idempotency.py`: the rules of keys.
* `stripe/`: one PSP's dialect: `objects.py` (the state table), `operations.py` (what each endpoint does), `reading.py` (what
  reads show), `wire.py` (shapes).
* `change.py`, `account.py`, `book.py`: what one step changed, the state folded from it, the append-only file of it.
* `webhooks.py`, `delivery.py`: what is announced, and the sending of it.
* `settlement.py`, `settlement_file.py`: the money of a period as rows, and as a file with its control totals.
* `damage.py`, `damage_file.py`: the same, spoiled on purpose beside the true one, each damage on record.
* `http.py`, `server.py`, `admin.py`, `__main__.py`: the process around it.

The invariant: nothing is answered before the book holds it, and the state is always the fold of the book.
"""
