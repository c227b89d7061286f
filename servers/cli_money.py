"""`zerosum account ..` and `zerosum refund`: finance closes accounts and gives money back.

Invariant: every act has a key; without one given it is made from what is asked, so that the same command acts once.
"""

from typing import Annotated

import typer

from servers.cli_frame import AsJson, DataDir, settings_of, show, told

account = typer.Typer(help="Accounts of sellers: one owner's money in one currency.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose: one tenant's only.")]
Reason = Annotated[str, typer.Option(help="UPPER_SNAKE_CASE, for the record.")]
Key = Annotated[
    str, typer.Option(help="The key of this act; the same key acts once. Default: made from what is asked.")
]


@account.command("close")
def close(
    owner: str,
    currency: Annotated[str, typer.Option(help="ISO 4217.")],
    reason: Reason = "SELLER_LEFT",
    key: Key = "",
    tenant: Tenant = "demo",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take no new money for an owner, at the wallet and at the ledger. What is inside stays and is still owed."""
    from servers.money_client import close_account

    with told():
        rows = close_account(settings_of(data_dir), tenant, owner=owner, currency=currency, reason=reason, key=key)
        show(rows, as_json, f"Closed {owner} in {currency}")


def refund(
    payment_order_id: str,
    reason: Reason = "REQUESTED_BY_CUSTOMER",
    key: Key = "",
    tenant: Tenant = "demo",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Give an order's whole amount back to the buyer, once for ever. Shows the order's refunds as they stand."""
    from servers.money_client import create_refund

    with told():
        rows = create_refund(settings_of(data_dir), tenant, payment_order_id, reason=reason, key=key)
        show(rows, as_json, f"Refunds of {payment_order_id}")
