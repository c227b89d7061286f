"""Who may touch what, and the triggers that keep append-only tables so: statements made from a table's kind.

    payment, wallet, ledger   their own schema: SELECT, INSERT and UPDATE where rows move, SELECT and INSERT where they do not
    payment                   also DELETE on the private table: erasing a buyer
    reconciler                SELECT on the services' tables but the private one; its own schema, with DELETE on scratch
    auditor                   SELECT everywhere

Invariant: no role but the administrator's may UPDATE, DELETE or TRUNCATE an append-only table, and on PostgreSQL a
trigger refuses it even to the administrator.
"""

from collections.abc import Iterable, Iterator

from sqlalchemy import Table

from zerosum.store.table import APPEND_ONLY_KINDS

AUDITOR = "auditor"
RECONCILER = "reconciler"

REFUSE_CHANGE = """
CREATE OR REPLACE FUNCTION {schema}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table %.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def schema_grants(schema: str, role: str = "") -> Iterator[str]:
    """Who may enter a schema: `role`, which is named as the schema where it is a service's, and the auditor."""
    for each in (role or schema, AUDITOR):
        yield f"GRANT USAGE ON SCHEMA {schema} TO {each}"


def table_grants(table: Table, role: str = "") -> Iterator[str]:
    """Who may do what with a table: `role`, as above, and the auditor."""
    rights = ["SELECT", "INSERT"]
    if table.info["kind"] not in APPEND_ONLY_KINDS:
        rights.append("UPDATE")
    if table.info["kind"] in ("private", "scratch"):
        rights.append("DELETE")
    yield f"GRANT {', '.join(rights)} ON {table.fullname} TO {role or table.schema}"
    yield f"GRANT SELECT ON {table.fullname} TO {AUDITOR}"


def reading_grants(schemas: Iterable[str]) -> Iterator[str]:
    """What the reconciler may read: every table of the services' schemas as they are, but buyers' data.

    A revision that adds a table grants it by itself.
    """
    for schema in schemas:
        yield f"GRANT USAGE ON SCHEMA {schema} TO {RECONCILER}"
        yield f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {RECONCILER}"
    yield f"REVOKE SELECT ON payment.buyers FROM {RECONCILER}"  # noqa: S608 - a name of ours


def refusals(table: Table) -> Iterator[str]:
    """PostgreSQL only: the triggers of an append-only table, which nobody passes by accident."""
    if table.info["kind"] not in APPEND_ONLY_KINDS:
        return
    for when in ("UPDATE OR DELETE", "TRUNCATE"):
        name = f"refuse_{when.split()[0].lower()}"
        each = "ROW" if when != "TRUNCATE" else "STATEMENT"
        yield (
            f"CREATE OR REPLACE TRIGGER {name} BEFORE {when} ON {table.fullname} "
            f"FOR EACH {each} EXECUTE FUNCTION {table.schema}.refuse_change()"
        )
