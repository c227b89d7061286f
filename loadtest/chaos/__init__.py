"""`zerosum chaos`: what the world on virtual time cannot do, done to real processes.

Where to read: `run.py` tells the story; `case.py` is the table of crash points, `matrix.py` carries them out; `monkey.py`
does harm at random; `split.py` makes two live copies of a shard, `paused_raylet.py` has Ray make them; `ray_state.py` takes
from Ray what it remembers; `disk.py` fills the database's disk; `report.py` is the page.

* `arena.py`: the system under chaos, behind `proxy.py`, which cuts its database connections (`frontend.py` reads the wire).
* `client.py`: a buyer who asks again with the same key; `money.py`: where the money of a checkout is.
* `wait.py`: what a wait is and how it ends; `standstill.py`: whether this process itself was run.
* `second_copy.py`, `placed_shard.py`, `reachable_shard.py`: processes of the scenarios.
* `result.py`: what is kept, so that a second run goes on with what is missing.

The invariant: harm that was not seen to happen proves nothing, and is told as such.
"""
