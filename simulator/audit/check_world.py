"""What the PSP did against what we say: I3, I4, I22 and the settlement file.

A charge is joined to its order by the PSP's object id, else by its reference. A charge beside the order's own one is
explained by a mismatch only: `late_charge` and `second_charge` must be given back in full, the other kinds wait for
people. The order's own charge is given back exactly where a refund of ours says so.

Invariant: the PSP's side is taken as the truth; nothing of ours explains a charge away without a record.
"""

from collections import Counter, defaultdict

from simulator.audit.book import Book, BookCharge
from simulator.audit.database import Database, OrderKey
from simulator.audit.evidence import Evidence
from simulator.audit.finding import Findings, Harm
from simulator.audit.settlement import Settlement

_GIVEN_BACK = frozenset({"late_charge", "second_charge"})
_OF_OWN_CHARGE = frozenset({"account_closed", "reversal_failed", "refund_failed"})
"""Cases about the order's own charge: it is looked at as any other."""


def charges_match_orders(evidence: Evidence, found: Findings) -> None:
    """I3: captured charges and SUCCESS orders are the same set, with equal money; others are cases, given back."""
    database, book = evidence.database, evidence.book
    assert book is not None
    found.examined = len(book.charges) + len(database.orders)
    explained = {case.psp_object_id: case.kind for case in database.mismatches if case.kind not in _OF_OWN_CHARGE}
    own: set[OrderKey] = set()
    for charge in book.charges:
        key = _order_of(database, charge)
        row = database.orders.get(key) if key else None
        case = explained.get(charge.intent) or explained.get(charge.id)
        if case is not None:
            if case in _GIVEN_BACK and charge.is_live:
                found.add(
                    f"charge {charge.id} of {charge.reference}",
                    f"is a {case} and was not given back",
                    expected=charge.taken_minor,
                    found=charge.refunded_minor,
                    harm=Harm.DOUBLE if case == "second_charge" else Harm.LOSS,
                )
            elif case not in _GIVEN_BACK and key and row and row.status == "SUCCESS":
                own.add(key)
            continue
        _check_charge(database, charge, key, own, found)
    for key, row in database.orders.items():
        if row.status == "SUCCESS" and key not in own:
            found.add(f"order {key}", "is SUCCESS and was never charged", expected="a charge", found="none")
    _check_object_ids(database, found)


def _check_charge(
    database: Database, charge: BookCharge, key: OrderKey | None, own: set[OrderKey], found: Findings
) -> None:
    row = database.orders.get(key) if key else None
    subject = f"charge {charge.id} of {key or charge.reference}"
    if key is None or row is None:
        found.add(subject, "took money for no order of ours", expected="an order", found="none", harm=Harm.LOSS)
        return
    if row.status != "SUCCESS":
        found.add(
            subject, "took money and the order is not SUCCESS", expected="SUCCESS", found=row.status, harm=Harm.LOSS
        )
        return
    if key in own:
        found.add(subject, "is one more charge of a paid order", expected="1 charge", found="more", harm=Harm.DOUBLE)
        return
    own.add(key)
    if row.psp_reference and row.psp_reference not in (charge.intent, charge.id):
        found.add(subject, "is another object than the order names", expected=row.psp_reference, found=charge.intent)
    asked, taken = (row.amount_minor, row.currency), (charge.taken_minor, charge.currency)
    if asked != taken:
        found.add(subject, "took other money than asked", expected=asked, found=taken)
    refund = database.refund_of(key)
    allowed = {None: {0}, "SUCCEEDED": {row.amount_minor}, "PENDING": {0, row.amount_minor}}
    if charge.refunded_minor not in allowed[refund.status if refund else None]:
        said = f"{refund.status} refund" if refund else "no refund"
        found.add(subject, "was given back otherwise than the order says", expected=said, found=charge.refunded_minor)


def _check_object_ids(database: Database, found: Findings) -> None:
    for object_id, orders in database.all(
        "SELECT psp_object_id, count(*) FROM payment.attempts WHERE psp_object_id <> ''"
        " GROUP BY psp_object_id HAVING count(*) > 1"
    ):
        found.add(f"object {object_id}", "is the object of several attempts", expected=1, found=orders)


def charged_at_most_once(evidence: Evidence, found: Findings) -> None:
    """I4: an order has at most one charge that was not given back, and at most one attempt that may have charged."""
    database, book = evidence.database, evidence.book
    assert book is not None
    found.examined = len(book.charges)
    live: defaultdict[str, list[str]] = defaultdict(list)
    for charge in book.charges:
        if charge.is_live:
            live[str(_order_of(database, charge) or charge.reference or charge.id)].append(charge.id)
    for name, charges in live.items():
        for _ in charges[1:]:
            found.add(
                f"order {name}", "is charged twice", expected="1 charge", found=", ".join(charges), harm=Harm.DOUBLE
            )
    for tenant, order_id, attempts in database.stream(
        "SELECT tenant, payment_order_id, count(*) FROM payment.attempts WHERE state <> 'NO_CHARGE'"
        " GROUP BY tenant, payment_order_id HAVING count(*) > 1"
    ):
        found.add(
            f"order {tenant}/{order_id}", "has several attempts that may have charged", expected=1, found=attempts
        )


def world_is_conserved(evidence: Evidence, found: Findings) -> None:
    """I22: charges less refunds = the PSP's balance and fees, from the book alone = the ledger's cash accounts."""
    book = evidence.book
    assert book is not None
    taken: Counter[str] = Counter()
    for charge in book.charges:
        taken[charge.currency] += charge.taken_minor - charge.refunded_minor
        if book.refunded_of_charge[charge.id] != charge.refunded_minor:
            refunds = book.refunded_of_charge[charge.id]
            found.add(
                f"charge {charge.id}", "is not given back by its refunds", expected=refunds, found=charge.refunded_minor
            )
    rows = evidence.database.all(
        "SELECT currency, sum(amount_minor)::bigint FROM ledger.entries WHERE account LIKE %s OR account LIKE 'bank:%%'"
        " OR account LIKE 'fees:psp:%%' OR account LIKE 'provider:%%' GROUP BY currency",
        (f"psp:{evidence.options.psp}:%",),
    )
    cash = Counter({currency: total for currency, total in rows})  # noqa: C416 (the rows are tuples of any length to mypy)
    currencies = {*taken, *cash, *book.balance_gross}
    found.examined = len(currencies)
    for currency in sorted(currencies):
        buyers, kept, ours = taken[currency], book.balance_gross[currency], cash[currency]
        if buyers != kept:
            found.add(f"the book in {currency}", "buyers paid other than was kept", expected=buyers, found=kept)
        if buyers != ours:
            harm = Harm.LOSS if ours < buyers else Harm.WRONG
            found.add(f"cash in {currency}", "is other than buyers paid", expected=buyers, found=ours, harm=harm)


def settlement_matches_orders(evidence: Evidence, found: Findings) -> None:
    """Manifests hold; charge lines and SUCCESS orders are the same set with equal gross; others are cases."""
    database, settlement = evidence.database, evidence.settlement
    assert settlement is not None
    found.examined = len(settlement.rows)
    for file, problem, expected, said in settlement.problems:
        found.add(file, problem, expected=expected, found=said)
    explained = {case.psp_object_id for case in database.mismatches if case.kind not in _OF_OWN_CHARGE}
    settled: set[OrderKey] = set()
    for line in settlement.rows.values():
        if line.category != "charge" or line.intent in explained:
            continue
        key = database.find_order(line.intent, line.reference)
        row = database.orders.get(key) if key else None
        subject = f"line {line.id} of {key or line.reference}"
        if key is None or row is None or row.status != "SUCCESS":
            status = row.status if row else "no order"
            found.add(subject, "settles what is not SUCCESS", expected="SUCCESS", found=status, harm=Harm.LOSS)
        elif key in settled:
            found.add(subject, "settles an order twice", expected="1 line", found="more", harm=Harm.DOUBLE)
        elif (row.amount_minor, row.currency) != (line.gross_minor, line.currency):
            asked, said_money = (row.amount_minor, row.currency), (line.gross_minor, line.currency)
            found.add(subject, "settles other money than asked", expected=asked, found=said_money)
        if key is not None:
            settled.add(key)
    _check_unsettled(database, settlement, settled, found)


def _check_unsettled(database: Database, settlement: Settlement, settled: set[OrderKey], found: Findings) -> None:
    intents = {line.intent for line in settlement.rows.values()}
    for key, row in database.orders.items():
        if row.status == "SUCCESS" and key not in settled and row.psp_reference not in intents:
            found.add(f"order {key}", "is SUCCESS and was never settled", expected="a charge line", found="none")


def events_are_in_the_inbox(evidence: Evidence, found: Findings) -> None:
    """I10: every webhook the product answered with a 2xx is in its inbox once, and nothing else is."""
    book = evidence.book
    assert book is not None
    found.examined = sum(1 for event in book.events if event.accepted)
    inbox: dict[str, tuple[int, str]] = {
        event_id: (times, outcome)
        for event_id, times, outcome in evidence.database.stream(
            "SELECT event_id, count(*), min(outcome) FROM payment.inbox WHERE psp = %s GROUP BY event_id",
            (evidence.options.psp,),
        )
    }
    _check_events(book, inbox, found)


def _check_events(book: Book, inbox: dict[str, tuple[int, str]], found: Findings) -> None:
    for event in book.events:
        times, outcome = inbox.pop(event.id, (0, ""))
        subject = f"event {event.id} ({event.type})"
        if times == 0 and event.accepted:
            found.add(subject, "was answered 2xx and is not in the inbox", expected=1, found=0, harm=Harm.LOSS)
        elif times > 1:
            found.add(subject, "is in the inbox more than once", expected=1, found=times, harm=Harm.DOUBLE)
        elif times == 1 and outcome not in ("APPLIED", "IGNORED", "UNMATCHED"):
            found.add(
                subject, "is in the inbox and not processed", expected="an outcome", found=outcome, harm=Harm.STUCK
            )
    for event_id in inbox:
        found.add(f"event {event_id}", "is in the inbox and the PSP never made it", expected="an event", found="none")


def _order_of(database: Database, charge: BookCharge) -> OrderKey | None:
    return database.find_order(charge.intent, charge.reference, charge.tenant)
