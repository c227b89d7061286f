"""Who may call what: one row per RPC. What has no row is refused, and a test holds the table to the contracts.

A role is a tenant's own, within its tenant. Where a row names subjects, it takes those processes of the house only (tenant
"-"), and nobody else. Where it is the house's, it takes people of the house by role: they see every tenant. The books are
each one's own: a tenant's people read theirs, and the house's read the house's, and no tenant's.
Source: failures.md security point 1, design section 8 "Who calls".

Invariant: default deny.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from servers.call import HOUSE, Caller, Role


@dataclass(frozen=True, slots=True)
class Rule:
    """Roles that may call, or the processes of the house that may. `is_public`: no token is asked for.

    `is_of_house`: the roles are those of the house's own people (tenant "-"), and of no tenant's. `is_of_each`: of a tenant's
    people and of the house's alike, each for what is their own: what is read is of the caller's tenant, and "-" is one.
    """

    roles: frozenset[Role] = frozenset()
    subjects: frozenset[str] = frozenset()
    is_of_house: bool = False
    is_of_each: bool = False
    is_public: bool = False

    def allows(self, caller: Caller) -> bool:
        """Whether this caller may."""
        if self.subjects:
            return (caller.tenant, caller.role) == (HOUSE, Role.SERVICE) and caller.subject in self.subjects
        return caller.role in self.roles and (self.is_of_each or (caller.tenant == HOUSE) == self.is_of_house)


def _roles(*roles: Role) -> Rule:
    return Rule(roles=frozenset(roles))


def _processes(*names: str) -> Rule:
    return Rule(subjects=frozenset(names))


_SUBMIT = _roles(Role.SERVICE)
_READ = _roles(Role.SERVICE, Role.SUPPORT, Role.FINANCE, Role.ADMIN)
_BOOKS = _roles(Role.FINANCE, Role.ADMIN)
_READ_BOOKS = Rule(roles=frozenset({Role.FINANCE, Role.ADMIN}), is_of_each=True)
"""The house has books of its own: what a PSP settled that belongs to no tenant."""
_ONCALL = _roles(Role.SUPPORT, Role.ADMIN)
_QUEUE = Rule(roles=frozenset({Role.FINANCE, Role.ADMIN}), is_of_house=True)
_POSTS = _processes("payment", "reconciler")
_PUBLIC = Rule(is_public=True)

ACCESS: Mapping[str, Rule] = {
    "/zerosum.v1.PaymentService/CreatePayment": _SUBMIT,
    "/zerosum.v1.PaymentService/CreateRefund": _roles(Role.SERVICE, Role.FINANCE, Role.ADMIN),
    "/zerosum.v1.PaymentService/GetPayment": _READ,
    "/zerosum.v1.PaymentService/GetPaymentOrder": _READ,
    "/zerosum.v1.PaymentService/ListPayments": _READ,
    "/zerosum.v1.PaymentService/WatchPayment": _READ,
    "/zerosum.v1.PaymentService/GetHistory": _roles(Role.SUPPORT, Role.FINANCE, Role.ADMIN),
    "/zerosum.v1.PaymentService/ReceiveWebhook": _processes("edge"),
    "/zerosum.v1.PaymentService/ReceiveWebhooks": _processes("edge"),
    "/zerosum.v1.PaymentService/ReportSettlement": _processes("reconciler"),
    "/zerosum.v1.OperatorService/ListTodos": _ONCALL,
    "/zerosum.v1.OperatorService/GetTodo": _ONCALL,
    "/zerosum.v1.OperatorService/ReplayTodo": _roles(Role.ADMIN),
    "/zerosum.v1.OperatorService/ListInFlight": _ONCALL,
    "/zerosum.v1.WalletService/ApplyTransfers": _POSTS,
    "/zerosum.v1.WalletService/CloseAccount": _BOOKS,
    "/zerosum.v1.WalletService/GetWallet": _READ,
    "/zerosum.v1.WalletService/ListEntries": _READ,
    "/zerosum.v1.LedgerService/PostJournals": _POSTS,
    "/zerosum.v1.LedgerService/CloseAccount": _BOOKS,
    "/zerosum.v1.LedgerService/GetJournal": _READ_BOOKS,
    "/zerosum.v1.LedgerService/ListEntries": _READ_BOOKS,
    "/zerosum.v1.LedgerService/GetBalance": _READ_BOOKS,
    "/zerosum.v1.LedgerService/TrialBalance": _READ_BOOKS,
    # files are of an account of the house and span tenants: so do the cases made of them
    "/zerosum.v1.ReconciliationService/ImportFile": _QUEUE,
    "/zerosum.v1.ReconciliationService/ListFiles": _QUEUE,
    "/zerosum.v1.ReconciliationService/RunReconciliation": _QUEUE,
    "/zerosum.v1.ReconciliationService/GetRun": _QUEUE,
    "/zerosum.v1.ReconciliationService/ListRuns": _QUEUE,
    "/zerosum.v1.ReconciliationService/CompareRuns": _QUEUE,
    "/zerosum.v1.ReconciliationService/ListMismatches": _QUEUE,
    "/zerosum.v1.ReconciliationService/GetMismatch": _QUEUE,
    "/zerosum.v1.ReconciliationService/AssignMismatch": _QUEUE,
    "/zerosum.v1.ReconciliationService/CommentMismatch": _QUEUE,
    "/zerosum.v1.ReconciliationService/ProposeResolution": _QUEUE,
    "/zerosum.v1.ReconciliationService/ApproveResolution": _QUEUE,
    "/zerosum.v1.ReconciliationService/RejectResolution": _QUEUE,
    "/zerosum.v1.ReconciliationService/GetAgeing": _QUEUE,
    # the contracts are public; health tells SERVING or not
    "/grpc.health.v1.Health/Check": _PUBLIC,
    "/grpc.health.v1.Health/Watch": _PUBLIC,
    "/grpc.health.v1.Health/List": _PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _PUBLIC,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _PUBLIC,
}
"""Buyers and sellers have no door of their own yet: their tokens are known, and open nothing."""

NOBODY = Rule()
"""What an RPC without a row gets."""


def rule_of(method: str) -> Rule:
    """The rule of an RPC by its full name ("/package.Service/Method")."""
    return ACCESS.get(method, NOBODY)
