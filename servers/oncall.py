"""The door of OperatorService: what on-call sees of effects that are not finished, and the one act they have.

Invariant: an operator's act is a command with a key and the operator's name, recorded like any other.
"""
# ruff: noqa: N802 - names and arguments of methods are the contract's

import grpc

from actors.answer import Accepted, Applied, Replied, Shards
from servers.call import current_call, current_tenant
from servers.door import check
from servers.page import after_of, rows_max_of, token_of
from servers.reply import payment_order_of, timestamp_of
from servers.status import Problem, Rejected, not_found, of_answer, refused
from zerosum.domain.identity import EntityKey, Key
from zerosum.domain.message import CheckoutCommand, ReplayTodo
from zerosum.domain.todo import TodoState
from zerosum.readers import PaymentReader, TodoRow
from zerosum.settings import Settings
from zerosum.v1 import payment_pb2 as pb
from zerosum.v1 import payment_pb2_grpc as rpc

_STATES = {
    TodoState.OPEN: pb.TODO_STATE_OPEN,
    TodoState.DONE: pb.TODO_STATE_DONE,
    TodoState.DEAD: pb.TODO_STATE_DEAD,
}
_STATES_ASKED: dict[int, TodoState] = {number: state for state, number in _STATES.items()}


class OperatorServicer(rpc.OperatorServiceServicer):
    """OperatorService."""

    def __init__(self, *, shards: Shards, reader: PaymentReader, settings: Settings) -> None:
        self._shards = shards
        self._reader = reader
        self._alert_ms = settings.in_flight_alert_ms

    async def ListTodos(self, request: pb.ListTodosRequest, context: grpc.aio.ServicerContext) -> pb.ListTodosResponse:
        """To-dos of the tenant by page, without their requests."""
        if refusals := check(request):
            raise refused(*refusals)
        page = await self._reader.todos(
            current_tenant(), _STATES_ASKED.get(request.state), rows_max_of(request.page), after_of(request.page)
        )
        todos = [_todo(row, request_json="") for row in page.rows]
        return pb.ListTodosResponse(todos=todos, next_page_token=token_of(page.after))

    async def GetTodo(self, request: pb.GetTodoRequest, context: grpc.aio.ServicerContext) -> pb.GetTodoResponse:
        """One to-do with the request it would send."""
        if refusals := check(request):
            raise refused(*refusals)
        return pb.GetTodoResponse(todo=await self._todo(EntityKey(current_tenant(), request.checkout_id), request))

    async def ReplayTodo(
        self, request: pb.ReplayTodoRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReplayTodoResponse:
        """Gives a dead letter a new budget, once per key. FAILED_PRECONDITION: it is not a dead letter."""
        if refusals := check(request):
            raise refused(*refusals)
        call = current_call()
        entity = EntityKey(call.caller.tenant, request.checkout_id)
        replay = ReplayTodo(request.todo_id, Key(request.idempotency_key), call.caller.subject)
        await self._todo(entity, request)
        (answer,) = await self._shards.submit([CheckoutCommand(entity, replay)])
        match answer:
            case Applied(is_replay) | Replied(_, is_replay):
                call.is_replayed = is_replay
            case Accepted():
                raise Rejected(Problem("INTERNAL", inner="a replay was answered as a submit"))
            case _:
                raise Rejected(of_answer(answer))
        return pb.ReplayTodoResponse(todo=await self._todo(entity, request))

    async def ListInFlight(
        self, request: pb.ListInFlightRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListInFlightResponse:
        """Orders that are not final and older than the limit, oldest pages first."""
        if refusals := check(request):
            raise refused(*refusals)
        page = await self._reader.in_flight(
            current_tenant(), request.older_than_ms or self._alert_ms, rows_max_of(request.page), after_of(request.page)
        )
        orders = []
        for home, order_id in page.rows:
            order = await self._reader.order(home.tenant, order_id)
            if order is not None:
                orders.append(payment_order_of(order))
        return pb.ListInFlightResponse(payment_orders=orders, next_page_token=token_of(page.after))

    async def _todo(self, entity: EntityKey, request: pb.GetTodoRequest | pb.ReplayTodoRequest) -> pb.Todo:
        row = await self._reader.todo(entity, request.todo_id)
        if row is None:
            raise not_found("todo_id")
        return _todo(row, request_json=row.request)


def _todo(row: TodoRow, *, request_json: str) -> pb.Todo:
    todo = row.todo
    return pb.Todo(
        todo_id=todo.id,
        tenant=row.entity.tenant,
        checkout_id=row.entity.id,
        payment_order_id=todo.order_id,
        kind=todo.kind,
        state=_STATES[todo.state],
        tries=todo.tries,
        due_at=timestamp_of(todo.due_at_ms),
        created_at=timestamp_of(todo.created_at_ms),
        reason=todo.reason,
        request_json=request_json,
    )
