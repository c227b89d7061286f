"""What callers were told against what is stored: I6, I24.

Invariant: a reply that reached a caller is a promise; a call without one promises nothing.
"""

from collections import defaultdict
from hashlib import sha256

from simulator.audit.check_order import reachable_from
from simulator.audit.client import Call, ClientJournal, Line
from simulator.audit.database import SERVICES, Database, OrderKey, OrderRow
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm


def one_key_one_outcome(evidence: Evidence, found: Findings) -> None:
    """I6: one command row per key; all ok replies of a key are the stored bytes; every ok has an effect, no fail has one."""
    database, client = evidence.database, evidence.client
    assert client is not None
    found.examined = len(client.calls)
    _check_twins(database, found)
    stored = _stored_replies(database)
    commands = {
        (tenant, key): entity_id
        for tenant, key, entity_id in database.stream(
            "SELECT tenant, key, entity_id FROM payment.commands WHERE method = 'CreatePayment'"
        )
    }
    replies: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, call in client.calls.items():
        if call.result != "ok":
            continue
        entity_id = commands.get((call.tenant, call.key), "none")
        if entity_id != call.checkout_id:
            subject = f"call {name}, key {call.key}"
            found.add(subject, "was answered and its key is not stored so", expected=call.checkout_id, found=entity_id)
        if (call.tenant, call.checkout_id) not in stored:
            found.add(
                f"call {name}",
                "was answered and had no effect",
                expected=call.checkout_id,
                found="none",
                harm=Harm.LOSS,
            )
            continue
        if call.reply_sha256:
            replies[(call.tenant, call.key)].add(call.reply_sha256)
            kept = stored[(call.tenant, call.checkout_id)]
            if call.reply_sha256 != kept:
                found.add(
                    f"call {name}, key {call.key}",
                    "was told other than is stored",
                    expected=kept,
                    found=call.reply_sha256,
                )
    for (tenant, key), hashes in replies.items():
        if len(hashes) > 1:
            found.add(f"key {tenant}/{key}", "brought different replies", expected="1 reply", found=len(hashes))
    _check_fails(client, stored, found)


def _check_fails(client: ClientJournal, stored: dict[tuple[str, str], str], found: Findings) -> None:
    results: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for call in client.calls.values():
        results[(call.tenant, call.checkout_id)].add(call.result)
    for (tenant, checkout_id), said in results.items():
        if said == {"fail"} and (tenant, checkout_id) in stored:
            found.add(
                f"checkout {tenant}/{checkout_id}",
                "was refused for good and exists",
                expected="none",
                found="a checkout",
            )


def _check_twins(database: Database, found: Findings) -> None:
    for service in SERVICES:
        for tenant, method, key, times in database.stream(
            f"SELECT tenant, method, key, count(*) FROM {service}.commands GROUP BY tenant, method, key HAVING count(*) > 1"  # noqa: S608 (names of ours)
        ):
            subject = f"command {service}:{tenant}/{method}/{key}"
            found.add(subject, "was taken more than once", expected=1, found=times, harm=Harm.DOUBLE)
    for tenant, checkout_id, times in database.stream(
        "SELECT tenant, checkout_id, count(*) FROM payment.payment_events GROUP BY tenant, checkout_id HAVING count(*) > 1"
    ):
        found.add(
            f"checkout {tenant}/{checkout_id}", "exists more than once", expected=1, found=times, harm=Harm.DOUBLE
        )


def _stored_replies(database: Database) -> dict[tuple[str, str], str]:
    return {
        (tenant, checkout_id): sha256(reply).hexdigest() if reply is not None else "no reply"
        for tenant, checkout_id, reply in database.stream(
            "SELECT tenant, checkout_id, reply FROM payment.payment_events"
        )
    }


def acknowledged_is_durable(evidence: Evidence, found: Findings) -> None:
    """I24: every acknowledged checkout is there, with what was asked for, and stands where it was said to or further."""
    database, client = evidence.database, evidence.client
    assert client is not None
    asked: set[tuple[str, str, str]] = set()
    for call in client.calls.values():
        if call.result != "ok":
            continue
        found.examined += 1
        _check_statuses(call, database, found)
        request = (call.tenant, call.checkout_id, call.fingerprint)
        if request not in asked:
            asked.add(request)
            for line in client.lines[request]:
                _check_line(call, line, database.orders.get(OrderKey(call.tenant, line.order_id)), found)


def _check_statuses(call: Call, database: Database, found: Findings) -> None:
    for order_id, told in call.statuses:
        key = OrderKey(call.tenant, order_id)
        row = database.orders.get(key)
        if row is not None and row.status not in reachable_from(told):
            found.add(f"order {key}", "is not what its caller was told", expected=told, found=row.status)


def _check_line(call: Call, line: Line, row: OrderRow | None, found: Findings) -> None:
    subject = f"order {call.tenant}/{line.order_id}"
    if row is None:
        found.add(subject, "was acknowledged and is gone", expected=call.checkout_id, found="none", harm=Harm.LOSS)
        return
    asked = (call.checkout_id, line.seller, line.amount, line.currency)
    kept = (row.checkout_id, row.seller, row.amount, row.currency)
    if asked != kept:
        found.add(subject, "is stored other than it was asked for", expected=asked, found=kept)
