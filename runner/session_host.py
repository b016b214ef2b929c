"""One owned session on a runner: acts on its state until it is detached, fenced, or the log is gone for good.

The state says what shall be, this says what is; `runner.steps` says what to do about the difference. Nothing is
done because a message arrived: messages may be lost, the state is read again.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from podium.clock import Clock
from podium.drafts import Draft, kind_of
from podium.errors import Fenced, PodiumError
from podium.eventlog import EventLog, NativeLog, SessionWriter, Tail, UnacknowledgedBudget
from podium.eventlog.content import LongContent
from podium.session import pending_approvals
from podium.v1 import event_pb2 as e
from podium.v1 import runner_pb2
from podium.v1 import session_pb2 as s
from runner import processes
from runner.deltas import DeltaStream
from runner.providers.port import Answer, Driver, Provider, ProviderFailed, SessionSpec, close_bounded
from runner.questions import Questions, is_pending
from runner.settings import RunnerSettings
from runner.steps import DETACHES, Step, may_detach, next_step
from runner.turns import TurnRun
from runner.workspaces import Workspaces

_log = structlog.get_logger()

OPEN_DEADLINE_S = 120.0
"""For a client to be there; none of those known takes a tenth of it."""
TASKS_END_S = 10.0
"""For the tasks of a session to end once they are cancelled."""

_DETACH_REASONS = {
    Step.DETACH_DEFERRED: e.DETACH_REASON_DEFERRED,
    Step.DETACH_STOPPED: e.DETACH_REASON_STOPPED,
    Step.DETACH_DRAINED: e.DETACH_REASON_DRAINED,
    Step.DETACH_IDLE: e.DETACH_REASON_IDLE,
}


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of a runner share."""

    settings: RunnerSettings
    runner_id: str
    log: EventLog
    native: NativeLog
    content: LongContent
    clock: Clock
    budget: UnacknowledgedBudget
    slots: asyncio.Semaphore
    workspaces: Workspaces
    providers: dict[str, Provider]
    environment: Callable[[str], dict[str, str]]
    """The environment a provider's client may see."""

    def folder(self, session_id: str) -> Path:
        """Return the session's own folder: launcher, lock, process record."""
        return self.settings.state_dir / "sessions" / session_id


class SessionHost:
    """Owns one session under one epoch. `run` returns when it is owned no more."""

    def __init__(
        self, shared: Shared, session_id: str, tail: Tail, on_turn_over: Callable[[], None] = lambda: None
    ) -> None:
        """Take over at `tail`, the result of the attach; `on_turn_over` is called when a turn's slot is free."""
        if tail.state is None:
            raise ValueError("an owner attaches to a session that is there")
        self._shared = shared
        self.session_id = session_id
        self.epoch = tail.state.epoch
        self._tail = tail
        self._changed = asyncio.Event()
        self._on_turn_over = on_turn_over
        self._turn: asyncio.Task[None] | None = None
        self._run: TurnRun | None = None
        self._interrupting: asyncio.Task[None] | None = None
        self._first_heard_ns = 0
        self._driver: Driver | None = None
        self._half_open = False
        self._closing = asyncio.Lock()
        self._driver_mode: s.PermissionMode.ValueType = s.PERMISSION_MODE_UNSPECIFIED
        self.draining = False
        self.idle_since = shared.clock.monotonic()
        """Monotonic seconds since which no turn runs; infinite while one does."""
        self.evicted = False
        self._has_looked = False
        self.leaving = False
        """Whether it may have given the session up already: it does not act on what comes now."""
        self._writer: SessionWriter
        self._questions: Questions
        self._deltas: DeltaStream
        self._turn_id = ""

    @property
    def busy(self) -> bool:
        """Return whether a turn runs or waits for a slot, or may be about to: the state was not looked at yet."""
        return self._turn is not None or not self._has_looked

    def look(self) -> None:
        """Look at the state again."""
        self._changed.set()

    def drain(self) -> None:
        """Take no further turn, defer questions, detach when the running turn is over."""
        self.draining = True
        self.look()

    def abandon(self) -> None:
        """End the running turn as lost: the runner has no more time."""
        if self._turn is not None:
            self._turn.cancel()

    def evict(self) -> None:
        """Detach as if idle for long: somebody else needs the room."""
        self.evicted = True
        self.look()

    async def run(self) -> None:
        """Act until the session is owned no more; nothing of it runs afterwards. Never raises Fenced."""
        shared = self._shared
        async with AsyncExitStack() as around:
            around.push_async_callback(self._close_driver)
            self._writer = SessionWriter(
                shared.log,
                self.session_id,
                runner=shared.runner_id,
                epoch=self.epoch,
                tail=self._tail,
                clock=shared.clock,
                budget=shared.budget,
                on_change=lambda _: self._changed.set(),
                offload=shared.content.out_or_unreadable,
                outage_s=shared.settings.outage_s,
            )
            await around.enter_async_context(self._writer)
            self._deltas = await around.enter_async_context(DeltaStream(self.session_id, shared.log.publish_delta))
            provider = shared.providers.get(self._writer.state.session.provider)
            self._questions = Questions(
                shared.log,
                self._writer,
                shared.clock,
                defer_after_s=shared.settings.defer_after_s,
                can_defer=provider is not None and provider.capabilities.deferred_approvals,
                drains=lambda: self.draining,
                outage_s=shared.settings.outage_s,
            )
            await self._until_over()

    async def _until_over(self) -> None:
        """Serve until detached, or until nothing can be written any more."""
        ended = asyncio.ensure_future(self._writer.ended())
        serving = asyncio.ensure_future(self._serve())
        try:
            await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
            for first in (serving, ended):
                if first.done():
                    first.result()
                    break
        except Fenced as fenced:
            _log.info("fenced", session=self.session_id, epoch=self.epoch, by=fenced.epoch)
        finally:
            self.leaving = True
            await self._end(serving, ended, self._turn, self._interrupting)

    async def _end(self, *tasks: asyncio.Future[None] | None) -> None:
        """Cancel the tasks and wait until they have ended; their errors were told, or no longer matter."""
        left = {task for task in tasks if task is not None}
        for task in left:
            task.cancel()
        ended, stuck = await asyncio.wait(left, timeout=TASKS_END_S)
        for task in ended:
            if not task.cancelled():
                task.exception()
        if stuck:
            _log.error("tasks of a session did not end", session=self.session_id, tasks=len(stuck))

    async def _serve(self) -> None:
        await self._end_what_was_left()
        while True:
            self._changed.clear()
            await self._questions.state_changed()
            self._has_looked = True
            step = next_step(
                self._writer.state,
                running=self._turn is not None,
                waiting=self._turn_id if self._run is not None and self._run.waits else "",
                interrupted=self._interrupting is not None,
                draining=self.draining,
                idle=self._is_idle(),
            )
            if step in DETACHES:
                if await self._detach(step):
                    return
            elif step is Step.WAIT:
                await self._wait()
            else:
                await self._do(step)

    async def _do(self, step: Step) -> None:
        state = self._writer.state
        match step:
            case Step.INTERRUPT:
                self._begin_interrupt()
            case Step.GIVE_UP:
                await self._end(self._turn)
            case Step.END_INTERRUPTED:
                reason = state.turn.interrupt_reason
                await self.end_turn(state.turn.id, e.TurnEnded(status=s.TURN_STATUS_INTERRUPTED, reason=reason))
            case Step.END_LOST:
                await self._end_lost(state.turn.id)
            case Step.START:
                self._begin(state.queue[0].id, state.queue[0].after_position, resumes=False)
            case Step.RESUME:
                self._begin(state.turn.id, state.turn.after_position, resumes=True)
            case _:
                raise AssertionError(step)

    def _begin(self, turn_id: str, after_position: int, *, resumes: bool) -> None:
        self._interrupting, self._first_heard_ns = None, 0
        self._turn_id = turn_id
        self.idle_since, self.evicted = float("inf"), False
        self._run = TurnRun(self, turn_id, after_position, resumes=resumes)
        self._turn = asyncio.create_task(self._run.run(), name=f"turn {turn_id}")
        self._turn.add_done_callback(self._turn_is_over)

    def _turn_is_over(self, task: asyncio.Task[None]) -> None:
        self._turn, self._run, self._turn_id = None, None, ""
        self.idle_since = self._shared.clock.monotonic()
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), PodiumError):
            _log.error("a turn broke its host", session=self.session_id, exc_info=task.exception())
        self._changed.set()
        self._on_turn_over()

    def _begin_interrupt(self) -> None:
        if self._interrupting is None and self._turn is not None and self._run is not None:
            interrupting = self._interrupt(self._turn, self._run)
            self._interrupting = asyncio.create_task(interrupting, name=f"interrupt of {self._turn_id}")

    async def _interrupt(self, turn: asyncio.Task[None], run: TurnRun) -> None:
        """Ask the client to stop; end it when it does not obey in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._shared.settings.interrupt_grace_s):
                if self._driver is not None:
                    try:
                        await self._driver.interrupt()
                    except Exception as error:  # noqa: BLE001 - whatever it was: the grace runs
                        _log.warning("a client could not be interrupted", session=self.session_id, exc_info=error)
                await asyncio.wait({turn})
        if not turn.done():
            _log.warning("client ended: it did not obey an interrupt", session=self.session_id)
            run.cut_off()

    async def _wait(self) -> None:
        timeout = None
        if self._turn is None:
            timeout = max(0.0, self.idle_since + self._shared.settings.idle_s - self._shared.clock.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._changed.wait()

    def _is_idle(self) -> bool:
        return self.evicted or self._shared.clock.monotonic() - self.idle_since >= self._shared.settings.idle_s

    async def _detach(self, step: Step) -> bool:
        """Give the session up, unless something came in between; return whether it is given up."""
        # The client ends first: whoever attaches next must find the folder free.
        await self._close_driver()
        self.evicted, self.leaving = False, True
        detached = e.RunnerDetached(runner=self._shared.runner_id, epoch=self.epoch, reason=_DETACH_REASONS[step])
        await self._writer.write([Draft(detached)], only_if=lambda state: may_detach(state, step))
        await self._writer.flush()
        self.leaving = not self._writer.state.HasField("owner")
        return self.leaving

    async def _end_what_was_left(self) -> None:
        """End every process an earlier owner left for this session, and fence its folder."""
        folder = self._shared.folder(self.session_id)
        ended = await asyncio.to_thread(processes.end_previous_process, folder, self.session_id, epoch=self.epoch)
        if ended.processes:
            _log.info("ended what an earlier owner left", session=self.session_id, processes=len(ended.processes))
        if not ended.is_clear:
            _log.error("an earlier owner's processes are still there", session=self.session_id, lock=ended.lock.value)

    async def _end_lost(self, turn_id: str) -> None:
        # What ran under this owner must have ended before the log says so; earlier owners' processes have.
        await self._close_driver()
        code, why = ("RUNNER_DRAINED", "shut down") if self.draining else ("RUNNER_LOST", "is gone")
        message = f"the runner that ran this turn {why}; ask again to go on from what was said"
        problem = s.Problem(code=code, message=message, retryable=True)
        ended = e.TurnEnded(status=s.TURN_STATUS_LOST, reason=f"runner {why}", problem=problem)
        await self.end_turn(turn_id, ended, open_questions=s.APPROVAL_OUTCOME_OWNER_LOST)

    # What a running turn uses.

    @property
    def state(self) -> s.SessionState:
        """Return the newest state known."""
        return self._writer.state

    @property
    def shared(self) -> Shared:
        """Return what all sessions of the runner share."""
        return self._shared

    async def write(self, drafts: Sequence[Draft], *, only_if: Callable[[s.SessionState], bool] | None = None) -> None:
        """Put facts on the log; see SessionWriter.write."""
        await self._writer.write(drafts, only_if=only_if)

    async def flush(self) -> s.SessionState:
        """Return the state once all facts so far are on the log."""
        await self._writer.flush()
        return self._writer.state

    async def end_turn(
        self,
        turn_id: str,
        ended: e.TurnEnded,
        open_questions: s.ApprovalOutcome.ValueType = s.APPROVAL_OUTCOME_TURN_ENDED,
    ) -> None:
        """Settle the turn's open questions and end it, unless it has ended."""
        for approval in pending_approvals(self.state):
            settled = e.ApprovalResolved(approval_id=approval.id, outcome=open_questions)
            await self.write([Draft(settled, turn_id=turn_id)], only_if=is_pending(approval.id))
        await self.write(
            [Draft(ended, turn_id=turn_id)], only_if=lambda state: state.HasField("turn") and state.turn.id == turn_id
        )
        await self.flush()

    def first_token_ms(self, started_at_ns: int) -> int:
        """Return how long after the turn's start the model was first heard, 0 when it was not."""
        return max(0, self._first_heard_ns - started_at_ns) // 1_000_000 if self._first_heard_ns else 0

    async def driver(self) -> Driver:
        """Return the session's client, started or resumed when there is none. Raises ProviderFailed."""
        session = self.state.session
        if self._driver is None:
            self._driver = await self._open(session)
        elif self._driver_mode != session.permission_mode:
            await self._driver.set_permission_mode(session.permission_mode)
        self._driver_mode = session.permission_mode
        return self._driver

    def workspace(self) -> Path:
        """Return the session's folder, looked at anew. Raises ProviderFailed."""
        session = self.state.session
        return self._shared.workspaces.folder(session.workspace, session.directory)

    async def _open(self, session: s.Session) -> Driver:
        provider = self._shared.providers.get(session.provider)
        if provider is None:
            raise ProviderFailed("PROVIDER_UNKNOWN", f"this runner has no provider {session.provider!r}")
        spec = SessionSpec(
            session_id=self.session_id,
            epoch=self.epoch,
            workspace=self.workspace(),
            state_dir=self._shared.folder(self.session_id),
            environment=self._shared.environment(session.provider),
            provider_session_id=session.provider_session_id,
            model=session.model,
            effort=session.effort,
            permission_mode=session.permission_mode,
            system_prompt_addition=session.system_prompt_addition,
        )
        self._half_open = True
        patience = asyncio.timeout(OPEN_DEADLINE_S)
        try:
            async with patience:
                driver = await provider.open(spec, self)
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise ProviderFailed("RUNNER_FAULT", f"the client was not there after {OPEN_DEADLINE_S:.0f} s") from error
        self._half_open = False
        return driver

    async def drop_driver(self) -> None:
        """End the client: the next turn starts a new one."""
        await self._close_driver()

    async def _close_driver(self) -> None:
        """End the client, if there is one, and whatever one left that did not come up; bounded, may be repeated."""
        async with self._closing:
            if self._driver is None and not self._half_open:
                return
            if self._driver is None or not await self._closes(self._driver):
                folder = self._shared.folder(self.session_id)
                await asyncio.to_thread(processes.end_previous_process, folder, self.session_id, epoch=self.epoch)
            # Not before it has ended: if this is cancelled, whoever comes next ends it.
            self._driver, self._half_open = None, False

    async def _closes(self, driver: Driver) -> bool:
        try:
            if await close_bounded(driver):
                return True
        except Exception as error:  # noqa: BLE001 - whatever it was: the launcher ends the client
            _log.error("a driver broke while it was closed", session=self.session_id, exc_info=error)
            return False
        _log.warning("client did not end in time", session=self.session_id)
        return False

    # The outbox: what a driver can tell its session.

    async def emit(self, drafts: Sequence[Draft]) -> None:
        """Put facts on the log, in order; waits when the log is slower than the client."""
        for draft in drafts:
            kind_of(draft.body)  # What is no fact must not reach the writer, which it would end.
        if any(isinstance(draft.body, e.Message) for draft in drafts):
            self._deltas.forget()
            self._first_heard_ns = self._first_heard_ns or self._shared.clock.now_ns()
        await self._writer.write(
            [draft if draft.turn_id else replace(draft, turn_id=self._turn_id) for draft in drafts]
        )

    def delta(self, delta: runner_pb2.Delta) -> None:
        """Show text while it is being said."""
        self._first_heard_ns = self._first_heard_ns or self._shared.clock.now_ns()
        self._deltas.add(delta, self._turn_id)

    def native(self, record: bytes) -> None:
        """Keep the client's own record beside the log."""
        provider = self._writer.state.session.provider
        self._shared.native.publish(self.session_id, self.epoch, record, provider=provider)

    async def ask(self, question: e.ApprovalRequested) -> Answer:
        """Ask a person; see Outbox.ask."""
        answer = await self._questions.ask(question, self._turn_id)
        expired = answer.outcome == s.APPROVAL_OUTCOME_EXPIRED
        if expired and self.state.session.approval_policy.on_deadline == s.DEADLINE_ACTION_INTERRUPT:
            self._begin_interrupt()
        return answer
