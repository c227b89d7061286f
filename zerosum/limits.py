"""Every number the house is built on, each with its arithmetic. Nothing else lives here.

Units are in the names. A number a deployment may change is a setting (`settings.py`) whose default stands here.
"""

SLOTS = 64
"""Slots of a service. 64 = 8 machines x 8 shards; a slot is one log, so more slots only cost more slot rows a commit."""

CHECKOUT_SHARDS = 2
ACCOUNT_SHARDS = 1
LEDGER_SHARDS = 1
"""Shards per machine. One a core for checkouts (they call PSPs); one writer suffices for accounts: 4,000 postings/s."""

BATCH_TURNS_MAX = 256
BATCH_BYTES_MAX = 1_000_000
"""One commit. 256 turns x ~2 KB of rows = 0.5 MB; at 1 MB a commit stays under 50 ms and below every wire limit."""

MAILBOX_ENTITY_MAX = 1_000
MAILBOX_SHARD_MAX = 10_000
"""Waiting commands. 10,000 at 1,000 turns/s is 10 s of work, as long as a caller waits at the most."""

ADMISSION_WAIT_MS = 150
ADMISSION_WAITING_MIN = 16
"""A server turns callers away when those before them wait for more than 150 ms in the mean to be accepted: chosen when a
crowd waited 25 ms for the next call, 12 ms for the next commit and some 20 ms on the way, twice that at the knee, and half as
much again for chance. The paces are shorter now; with 100 ms callers were turned away where all could be served
(docs/adr/0013). Sixteen may wait for a shard in any case: one call."""

PASSIVATE_AFTER_MS = 60_000
"""An idle entity leaves memory. 300 checkouts/s x 60 s x ~4 KB = 72 MB a machine."""

SWEEP_EVERY_MS = 1_000
SWEEP_ROWS_MAX = 500
SWEEP_GRACE_MS = 1_000
"""The sweep finds what a dead process left. One index read a second; 500 rows = two batches; a second of
grace leaves to-dos of live entities to their own timers."""

EFFECTS_LIVE_MAX = 1_000
"""Effects of one shard under way at once. 1,000 x 10 s timeout bounds what a dead PSP can pile up in memory."""

PSP_CALLS_MAX = 128
"""Calls to one PSP in flight from one shard: 128 / 100 ms = 1,280 calls/s, above Stripe's limit for one account."""

PSP_TIMEOUT_MS = 10_000
"""Longest wait for one PSP operation. Stripe's own p99.9 is about 5 s; twice that."""

PSP_RATE_PER_S = 2_000
PSP_BURST = PSP_CALLS_MAX
"""Token bucket of one process for one PSP: 300 checkouts/s x 2 calls, thrice; a backlog starts at most one window at once."""

BREAKER_WINDOW_MS = 10_000
BREAKER_CALLS_MIN = 20
BREAKER_FAILED_PERCENT = 90
"""A PSP is down when 9 of 10 calls of the last 10 s, at least 20, brought no answer. One that drops 30 % of requests and 30 %
of answers fails about 54 %: it is slow, not down, and 18 of 20 such calls fail by chance less than once in 1,000 windows."""

BREAKER_OPEN_MS = 1_000
BREAKER_OPEN_CAP_MS = 30_000
"""First pause of an open breaker, doubling with every failed probe; after an hour's outage at most 30 s are lost."""

EFFECT_LEASE_MS = 15_000
"""To-do lease: the longest run of an effect, 10 s timeout + 5 s for connecting and reporting."""

EFFECT_HOLD_LEASES = 2
"""Longest time that one run may hold its permit, in leases. No honest run needs more than one, and a later run owns the to-do
by then; what is still there hangs. So 1,000 that hang keep a shard's effects waiting for 30 s, never for ever."""

PEER_TIMEOUT_MS = 5_000
BATCH_PACE_MS = 10
"""After a batch of more than one turn a shard begins the next one no earlier than 10 ms after the one before: what comes
meanwhile shares its commit. A lone turn never waits. Three commits stand between a buyer and the answer, so a crowd adds
3 x 5 ms to the median, and a shard commits at most 100 times a second. See docs/adr/0007."""

CALL_PACE_MS = 20
"""A server paces its calls to a shard likewise, submits and outcomes: through Ray a call costs 0.8 ms of CPU in the server
and 0.6 ms in the shard, whatever it carries. A crowd waits 10 ms in the mean for each; a lone command never waits."""

PEER_BATCH_MAX = 256
PEER_RANGES = 1
PEER_GATHER_MS = 250
"""Calls to wallet and ledger: items a call = one batch of theirs; one call in flight per range, a range per shard of theirs.
They are off the caller's way (the reply is fixed when the order is), so each call gathers for 250 ms: at 25 orders/s a shard
that is 6 postings a commit instead of one, and it bounds what a posting is late by. See docs/adr/0007."""

WEBHOOK_GATHER_MS = 250
"""Webhooks on their way to a shard gather likewise: nobody waits for one but the PSP, for seconds."""

NUMBERS_MAX = 50
"""Confirms, or cancels, of one order that a poll proved not to be executed, before people look. Where 9 of 10 requests are lost
that is half a per cent of the orders; a request that the PSP will never take would else be sent thousands of times a day."""

BACKOFF_BASE_MS = 100
BACKOFF_CAP_MS = 30_000
RETRY_AFTER_CAP_MS = 60_000
"""100 ms doubling to 30 s (settings may lower the cap) with full jitter; a PSP's Retry-After is obeyed up to a minute."""

POLL_BASE_MS = 60_000
POLL_CAP_MS = 3_600_000
"""A pending order is asked for after 1, 2, 4 .. 60 minutes."""

TRIES_MAX = 20
"""Budget where nothing can have moved (risk, prepare unsent): about 6 minutes of back-off, then people."""

PEER_TRIES_MAX = 1_000
"""Budget for our own services, which may be away for hours: 1,000 x 15 s (half the back-off's cap) is about 4 hours."""

UNKNOWN_BUDGET_MARGIN_MS = 60_000
"""A horizon ends this long before the PSP's: larger than the request timeout and any clock difference."""

ANSWER_AFTER_MS = 10_000
"""A caller's reply is fixed after this long at the latest; about the longest a buyer waits on a page."""

WAITER_SILENCE_MS = 2_000
"""A waiter without news reads the database."""

RETRY_HINT_MS = 500
"""RetryInfo of "in flight" and "busy": about one PSP round trip."""

ORDERS_MAX = 30
ID_LENGTH_MAX = 64
TEXT_LENGTH_MAX = 256
AMOUNT_LENGTH_MAX = 24
AMOUNT_MINOR_MAX = 10**15
"""A checkout: at most 30 sellers. Amounts: 5 x 10^14 yen must fit; 10^15 x 1,000 movements stays far below 2^63."""

PAGE_ROWS_MAX = 500
PAGE_ROWS_DEFAULT = 50

WEBHOOK_TOLERANCE_S = 300
WEBHOOK_BODY_MAX = 256 * 1024
"""Stripe's own tolerance; its events are a few KB."""

BODY_WITHIN_MS = 10_000
"""From the end of a request's head to the end of its body at the edge: 64 KB at 56 kbit/s, as slow as a line gets, is 9.4 s."""

CHECKPOINT_EVERY_S = 30
CHECKPOINT_EVERY_ENTRIES = 1_000
"""A roll-up checkpoint of an account without balance row after this many entries: a balance read sums at most 64 x 1,000."""

SETTLEMENT_LINE_BYTES_MAX = 65_536
SETTLEMENT_CELL_LENGTH_MAX = 4_096
SETTLEMENT_NAME_LENGTH_MAX = 500
SETTLEMENT_PAYOUTS_MAX = 10_000
SETTLEMENT_MANIFEST_BYTES_MAX = 4_000_000
"""A settlement file: lines of about 400 bytes in 22 cells; 500 is Stripe's own limit of a metadata value. What grows while a
file is read are its payouts: a PSP makes one a day and currency, and 10,000 of 200 bytes in the manifest are 2 MB."""

SETTLEMENT_DUE_AFTER_MS = 3 * 86_400_000
"""When a charge's line is missed: its file comes the night after, a weekend and a day of the PSP's trouble later at most."""

SETTLEMENT_BYTES_MAX = 10 * 1024**3
"""A settlement file: 10 GB is 30 million lines of 350 bytes, a day at 350 payments a second."""

SETTLEMENT_FILE_DUE_MS = 12 * 3_600_000
"""A day's file is due at noon UTC of the next day."""

RECONCILE_TICK_MS = 10_000
"""How often the watched folder and the schedule are looked at: two reads of a table of some hundred rows."""

RECONCILE_LEASE_MS = 60_000
"""A run's step takes some 100 ms and at most the statement timeout of 5 s; twelve times that and its holder is gone."""

RECONCILE_CATCH_UP_DAYS = 31
"""A month: longer than any outage, as long as a PSP re-issues files."""

CASE_ALERT_MS = 72 * 3_600_000
"""An open case gets three days before it is an alert: a weekend and a day of work."""
