"""On-call's way to OperatorService from the command line: blocking calls with an admin token signed for the occasion.

Invariant: every act has a key; the same key acts once, however often the command is run.
"""

import time
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from servers.call import Caller, Role
from servers.keys import issuer_of
from servers.problem import of_rpc
from zerosum.domain.identity import Tenant
from zerosum.errors import Misconfigured, Unavailable, ZerosumError
from zerosum.settings import Settings
from zerosum.v1 import common_pb2
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import OperatorServiceStub

_TIMEOUT_S = 15.0
_TOKEN_LIFE_S = 300
_PAGE_ROWS = 500
_STATES = {
    "": pb.TODO_STATE_UNSPECIFIED,
    "open": pb.TODO_STATE_OPEN,
    "dead": pb.TODO_STATE_DEAD,
    "done": pb.TODO_STATE_DONE,
}

Row = dict[str, Any]


class Refused(ZerosumError):
    """The service said no; the message is what it said."""


class Operator:
    """One command's connection."""

    def __init__(self, settings: Settings, tenant: str) -> None:
        caller = Caller(Tenant(tenant), Role.ADMIN, "cli")
        token = issuer_of(settings.data_dir).token(caller, expires_at_s=int(time.time()) + _TOKEN_LIFE_S)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._address = settings.payment_address

    def todos(self, state: pb.TodoState.ValueType) -> list[Row]:
        """Every to-do in that state (unspecified = open and dead)."""
        rows: list[Row] = []
        page = common_pb2.PageRequest(page_size=_PAGE_ROWS)
        while True:
            response = self._call("ListTodos", pb.ListTodosRequest(page=page, state=state))
            rows += [_todo(one) for one in response.todos]
            if not response.next_page_token:
                return rows
            page.page_token = response.next_page_token

    def todo(self, checkout_id: str, todo_id: str) -> Row:
        """One to-do with its request."""
        response = self._call("GetTodo", pb.GetTodoRequest(checkout_id=checkout_id, todo_id=todo_id))
        return _todo(response.todo) | {"request": response.todo.request_json}

    def replay(self, checkout_id: str, todo_id: str, key: str) -> Row:
        """Gives a dead letter a new budget; once per key ("" = a new one)."""
        request = pb.ReplayTodoRequest(
            checkout_id=checkout_id, todo_id=todo_id, idempotency_key=key or f"cli-{uuid4().hex}"
        )
        return _todo(self._call("ReplayTodo", request).todo)

    def in_flight(self, older_than_ms: int) -> list[Row]:
        """Orders that are not final and older than the limit."""
        rows: list[Row] = []
        page = common_pb2.PageRequest(page_size=_PAGE_ROWS)
        while True:
            response = self._call("ListInFlight", pb.ListInFlightRequest(page=page, older_than_ms=older_than_ms))
            rows += [_shown(one) for one in response.payment_orders]
            if not response.next_page_token:
                return rows
            page.page_token = response.next_page_token

    def _call(self, method: str, request: Message) -> Any:
        with grpc.insecure_channel(self._address) as channel:
            try:
                return getattr(OperatorServiceStub(channel), method)(
                    request, timeout=_TIMEOUT_S, metadata=self._metadata
                )
            except grpc.RpcError as error:
                raise trouble_of(error, "payment") from error


def state_of(word: str) -> pb.TodoState.ValueType:
    """The state a word stands for ("" = unspecified). Raises Misconfigured for another word."""
    if word not in _STATES:
        raise Misconfigured(f"--state: there is no state {word!r}; there are open, dead and done")
    return _STATES[word]


def trouble_of(error: grpc.RpcError, service: str) -> ZerosumError:
    """What a failed call is to a command: Unavailable (run it again), or Refused with the fields that are at fault."""
    problem = of_rpc(error, service=service)
    kind = Unavailable if problem.retry_after_s else Refused
    told = [f"{one.field}: {one.message}" for one in problem.errors if one.field]
    if len(told) == 1 and told[0].endswith(f": {problem.detail}"):  # the detail is the first field's
        return kind(f"{problem.reason}: {told[0]}")
    return kind(f"{problem.reason}: {problem.detail}" + (f" ({'; '.join(told)})" if told else ""))


def _todo(todo: pb.Todo) -> Row:
    return {
        "checkout_id": todo.checkout_id,
        "todo_id": todo.todo_id,
        "kind": todo.kind,
        "state": pb.TodoState.Name(todo.state).removeprefix("TODO_STATE_"),
        "tries": todo.tries,
        "due_at": todo.due_at.ToJsonString(),
        "created_at": todo.created_at.ToJsonString(),
        "reason": todo.reason,
    }


def _shown(order: pb.PaymentOrder) -> Row:
    row: Row = MessageToDict(order, preserving_proto_field_name=True)
    return row
