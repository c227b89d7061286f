"""On-call's way to OperatorService from the command line.

Invariant: every act has a key; the same key acts once, however often the command is run.
"""

from typing import Any
from uuid import uuid4

from google.protobuf.json_format import MessageToDict

from servers.client import Client
from servers.client_token import oncall_token
from zerosum.errors import Misconfigured
from zerosum.settings import Settings
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1.payment_pb2_grpc import OperatorServiceStub

_STATES = {
    "": pb.TODO_STATE_UNSPECIFIED,
    "open": pb.TODO_STATE_OPEN,
    "dead": pb.TODO_STATE_DEAD,
    "done": pb.TODO_STATE_DONE,
}

Row = dict[str, Any]


class Operator:
    """One command's connection."""

    def __init__(self, settings: Settings, tenant: str) -> None:
        token = oncall_token(settings, tenant)
        self._payment = Client("payment", settings.payment_address, OperatorServiceStub, token)

    def todos(self, state: pb.TodoState.ValueType) -> list[Row]:
        """Every to-do in that state (unspecified = open and dead)."""
        return [_todo(one) for one in self._payment.rows("ListTodos", pb.ListTodosRequest(state=state), "todos")]

    def todo(self, checkout_id: str, todo_id: str) -> Row:
        """One to-do with its request."""
        response = self._payment.call("GetTodo", pb.GetTodoRequest(checkout_id=checkout_id, todo_id=todo_id))
        return _todo(response.todo) | {"request": response.todo.request_json}

    def replay(self, checkout_id: str, todo_id: str, key: str) -> Row:
        """Gives a dead letter a new budget; once per key ("" = a new one)."""
        request = pb.ReplayTodoRequest(
            checkout_id=checkout_id, todo_id=todo_id, idempotency_key=key or f"cli-{uuid4().hex}"
        )
        return _todo(self._payment.call("ReplayTodo", request).todo)

    def in_flight(self, older_than_ms: int) -> list[Row]:
        """Orders that are not final and older than the limit."""
        request = pb.ListInFlightRequest(older_than_ms=older_than_ms)
        return [_shown(one) for one in self._payment.rows("ListInFlight", request, "payment_orders")]


def state_of(word: str) -> pb.TodoState.ValueType:
    """The state a word stands for ("" = unspecified). Raises Misconfigured for another word."""
    if word not in _STATES:
        raise Misconfigured(f"--state: there is no state {word!r}; there are open, dead and done")
    return _STATES[word]


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
