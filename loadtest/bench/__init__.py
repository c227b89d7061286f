"""`zerosum bench`: what this machine can do, and what the system makes of it. Figures of real processes, never asserted.

Where to read: `card.py` is the machine's own speed, taken before and after; `checkout.py` finds the knee and `shed.py` shows
what happens past it; `hot.py` sets one seller beside a thousand, `fan.py` and `grow.py` more sellers and larger books;
`cost.py` counts what a checkout takes, `steady.py` is one rate held; `recovery.py` kills and waits, `reconcile.py` judges;
`post.py` posts to our ledger and to peers in process, `post_rpc.py` over gRPC; `against.py` stands us beside the textbook.

* `generator.py`: the open-loop load, a process of its own; `plan.py` is what it is to do, `sample_file.py` what it saw.
* `staircase.py`: steps and the knee. `psp_profile.py`: how the simulator delays. `kept.py`: acknowledged is stored.
* `finding.py`: what a bench tells, as table and JSON; `page.py`: the same as a page with plots.
* `system.py`: the system under the bench; `served.py`: whether it serves.
* `echo.py`, `ray_hop.py`, `reconcile_work.py`: processes of their own.

Invariant: a figure is told with the command that brings it again, and what makes it void stands beside it.
"""
