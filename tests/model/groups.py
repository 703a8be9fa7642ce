"""The position of a consumer group in one shard: acknowledgements in order by two consumers, a reset and a checkpoint by others.

Everybody may be killed anywhere, and a power cut may come anywhere, also in the recovery that brings positions back to the
kept end. The two words of a group lie in one sector, so the disk holds them as they were at some instant. Entries are numbers;
everything below a reset counts as acknowledged, as does what a consumer is about to publish while the reset happens.
"""

from collections.abc import Iterator
from typing import NamedTuple

from checker import FAULT, Step

RESETTER, CHECKPOINTER, RECOVERY = 10, 11, 12


class Words(NamedTuple):
    """A group's line. ``acknowledged``: not in the file, but which entries somebody has acknowledged when it looks like this."""

    position: int
    checkpoint: int
    acknowledged: frozenset[int]


class Consumer(NamedTuple):
    """A handle: the position it knows, what it acknowledged, and its next step. ``following``: the next entry it acknowledges."""

    step: str
    known: int
    following: int


class Task(NamedTuple):
    """Somebody who takes a few steps, "" between them; ``number`` is the position on its way."""

    step: str
    number: int


class State(NamedTuple):
    """``end``: the next entry number; ``cut_off``: a reset or a checkpoint died half-way; ``recovering``: nobody is attached."""

    words: Words
    on_disk: Words
    end: int
    consumers: tuple[Consumer, ...]
    reset: Task
    checkpoint: Task
    recovering: str
    cut_off: bool
    left: tuple[int, int, int, int, int]


class Setting(NamedTuple):
    """``durable``: entries below survive a cut. The rest says how often each event may happen."""

    consumers: int = 2
    entries: int = 2
    durable: int = 1
    resets: int = 1
    checkpoints: int = 1
    kills: int = 1
    cuts: int = 1
    appends: int = 0


RESETS, CHECKPOINTS, KILLS, CUTS, APPENDS = range(5)
IDLE = Task("", 0)
NOWHERE = Words(0, 0, frozenset())
Found = list[State]


def spent(state: State, event: int) -> tuple[int, ...]:
    return (*state.left[:event], state.left[event] - 1, *state.left[event + 1 :])


def attached(words: Words) -> Consumer:
    return Consumer("acknowledge", words.position, words.position)


def moved(state: State, number: int, consumer: Consumer, **changed: object) -> State:
    consumers = (*state.consumers[:number], consumer, *state.consumers[number + 1 :])
    return state._replace(consumers=consumers, **changed)


def synced(state: State) -> State:
    """Return the state with the words on the disk, which nobody asks any more when no power cut is left."""
    return state._replace(on_disk=state.words if state.left[CUTS] else NOWHERE)


# ---- An acknowledgement ----


def acknowledge(state: State, number: int, consumer: Consumer) -> Found:
    """The next entry in order is acknowledged; the position is not raised yet."""
    if consumer.following >= state.end:
        return []
    words = state.words._replace(acknowledged=state.words.acknowledged | {consumer.following})
    after = consumer._replace(step="raise", following=consumer.following + 1)
    return [moved(state, number, after, words=words)]


def raise_position(state: State, number: int, consumer: Consumer) -> Found:
    """CAS(position, what this handle knows, raised)."""
    if state.words.position != consumer.known:
        return [moved(state, number, consumer._replace(step="look"))]
    words = state.words._replace(position=consumer.following)
    return [
        moved(state, number, consumer._replace(step="acknowledge", known=consumer.following), words=words)
    ]


def look(state: State, number: int, consumer: Consumer) -> Found:
    """Load the position that was in the way: lower than known is a reset, and is followed; another's raise may be enough."""
    there = state.words.position
    if there < consumer.known:
        return [moved(state, number, attached(state.words))]
    step = "acknowledge" if there >= consumer.following else "raise"
    return [moved(state, number, Consumer(step, there, max(consumer.following, there)))]


# ---- A reset ----


def reset_begin(state: State) -> Found:
    """Store the checkpoint of a position that somebody chose."""
    if not state.left[RESETS]:
        return []
    return [
        state._replace(
            words=state.words._replace(checkpoint=number), reset=Task("reset position", number), left=spent(state, RESETS)
        )
        for number in range(state.end + 1)
    ]  # fmt: skip


def reset_position(state: State) -> Found:
    """Store the position. From now on what is below it counts as acknowledged, and what lies beyond does not."""
    number = state.reset.number
    in_flight = {one.following - 1 for one in state.consumers if one.step != "acknowledge"}
    words = state.words._replace(position=number, acknowledged=frozenset({*range(number), *in_flight}))
    return [state._replace(words=words, reset=state.reset._replace(step="reset again"))]


def reset_again(state: State) -> Found:
    """Store the checkpoint once more, behind a fence."""
    words = state.words._replace(checkpoint=state.reset.number)
    return [state._replace(words=words, reset=state.reset._replace(step="reset sync"))]


def reset_sync(state: State) -> Found:
    """Fdatasync, and return."""
    return [synced(state)._replace(reset=IDLE)]


# ---- A checkpoint ----


def checkpoint_begin(state: State) -> Found:
    """Load the position."""
    if not state.left[CHECKPOINTS]:
        return []
    task = Task("checkpoint store", state.words.position)
    return [state._replace(checkpoint=task, left=spent(state, CHECKPOINTS))]


def checkpoint_store(state: State) -> Found:
    """Store it as the checkpoint."""
    words = state.words._replace(checkpoint=state.checkpoint.number)
    return [state._replace(words=words, checkpoint=state.checkpoint._replace(step="checkpoint look"))]


def checkpoint_look(state: State) -> Found:
    """Look again, behind a fence: a position that is lower was reset meanwhile."""
    there = state.words.position
    if there < state.checkpoint.number:
        return [state._replace(checkpoint=Task("checkpoint store", there))]
    return [state._replace(checkpoint=Task("checkpoint sync", 0))]


def checkpoint_sync(state: State) -> Found:
    """Fdatasync, and return."""
    return [synced(state)._replace(checkpoint=IDLE)]


# ---- Recovery after a power cut ----


def recovery_lower(state: State) -> Found:
    """Set position and checkpoint to the kept end where one of them lies beyond."""
    words = state.words
    if max(words.position, words.checkpoint) <= state.end:
        return [state._replace(recovering="recovery sync")]
    checkpoint = min(words.position, state.end)
    if words.checkpoint != checkpoint:
        return [state._replace(words=words._replace(checkpoint=checkpoint))]
    return [state._replace(words=words._replace(position=checkpoint))]


def recovery_sync(state: State) -> Found:
    """Fdatasync, and open the shard."""
    consumers = tuple(attached(state.words) for _ in state.consumers)
    return [synced(state)._replace(recovering="", consumers=consumers)]


CONSUMER_STEPS = {"acknowledge": acknowledge, "raise": raise_position, "look": look}
RESET_STEPS = {
    "reset checkpoint": reset_begin,
    "reset position": reset_position,
    "reset again": reset_again,
    "reset sync": reset_sync,
}
CHECKPOINT_STEPS = {
    "checkpoint load": checkpoint_begin,
    "checkpoint store": checkpoint_store,
    "checkpoint look": checkpoint_look,
    "checkpoint sync": checkpoint_sync,
}
RECOVERY_STEPS = {"recovery lower": recovery_lower, "recovery sync": recovery_sync}
STEPS = CONSUMER_STEPS | RESET_STEPS | CHECKPOINT_STEPS | RECOVERY_STEPS


# ---- Invariants ----


def position_is_acknowledged(_model, state: State) -> str:
    """The position never passes an entry that nobody acknowledged since the last reset: so no acknowledgement undoes one."""
    return "" if state.recovering else beyond_acknowledged("position", state.words.position, state.words)


def checkpoint_is_acknowledged(_model, state: State) -> str:
    """Nor does the checkpoint, once nobody is about to write it; what a reset or a checkpoint left half-way is excepted."""
    if state.reset.step or state.checkpoint.step or state.cut_off or state.recovering:
        return ""
    return beyond_acknowledged("checkpoint", state.words.checkpoint, state.words)


def beyond_acknowledged(what: str, number: int, words: Words) -> str:
    missing = set(range(number)) - words.acknowledged
    return f"the {what} {number} passes {sorted(missing)}" if missing else ""


def words_are_below_the_end(_model, state: State) -> str:
    """Neither word lies beyond the end of an open shard, in memory and on the disk."""
    highest = max(*state.words[:2], *state.on_disk[:2])
    return (
        f"a position of {highest}, the end is {state.end}"
        if not state.recovering and highest > state.end
        else ""
    )


class Groups:
    """The model. ``changes`` replaces the function of a step: a mutation."""

    def __init__(self, setting: Setting, changes: dict[str, object] | None = None) -> None:
        self.setting = setting
        self.steps = STEPS | (changes or {})
        self.of_states = (position_is_acknowledged, checkpoint_is_acknowledged, words_are_below_the_end)
        self.of_steps = ()

    def initial(self) -> State:
        words = Words(0, 0, frozenset())
        left = (
            self.setting.resets, self.setting.checkpoints, self.setting.kills, self.setting.cuts, self.setting.appends,
        )  # fmt: skip
        return State(
            words,
            words,
            self.setting.entries,
            (attached(words),) * self.setting.consumers,
            IDLE,
            IDLE,
            "",
            False,
            left,
        )

    def successors(self, state: State) -> Iterator[tuple[Step, State]]:
        if state.recovering:
            for after in self.steps[state.recovering](state):
                yield (RECOVERY, state.recovering), after
        else:
            yield from self.moves(state)
            yield from killed(state)
        if state.left[CUTS]:
            for after in cut(self.setting, state):
                yield (FAULT, "power cut"), after

    def moves(self, state: State) -> Iterator[tuple[Step, State]]:
        for number, consumer in enumerate(state.consumers):
            for after in self.steps[consumer.step](state, number, consumer):
                yield (number, consumer.step), after
        for who, name in (
            (RESETTER, state.reset.step or "reset checkpoint"),
            (CHECKPOINTER, state.checkpoint.step or "checkpoint load"),
        ):
            for after in self.steps[name](state):
                yield (who, name), after
        if state.left[APPENDS]:
            yield (FAULT, "append"), state._replace(end=state.end + 1, left=spent(state, APPENDS))

    def describe(self, step: Step) -> str:
        who = f"consumer {step[0]}: " if step[1] in CONSUMER_STEPS else ""
        text = f". {str(self.steps[step[1]].__doc__).partition(chr(10))[0]}" if step[1] in self.steps else ""
        return f"{who}{step[1]}{text}"


def killed(state: State) -> Iterator[tuple[Step, State]]:
    """Yield what is left when one of them dies; another consumer comes for one that died."""
    if not state.left[KILLS]:
        return
    left = spent(state, KILLS)
    for number in range(len(state.consumers)):
        yield (FAULT, "kill consumer"), moved(state, number, attached(state.words), left=left)
    if state.reset.step:
        yield (FAULT, "kill reset"), state._replace(reset=IDLE, cut_off=left_half_way(state), left=left)
    if state.checkpoint.step:
        yield (
            (FAULT, "kill checkpoint"),
            state._replace(checkpoint=IDLE, cut_off=left_half_way(state), left=left),
        )


def left_half_way(state: State) -> bool:
    return state.cut_off or bool(state.reset.step) or bool(state.checkpoint.step)


def cut(setting: Setting, state: State) -> Iterator[State]:
    """Yield what a power cut may leave: the line as it is or as it was synced, and any end from the durable one on."""
    gone = (attached(NOWHERE),) * setting.consumers
    for end in range(setting.durable, state.end + 1):
        for words in {state.words, state.on_disk}:
            kept = words._replace(acknowledged=words.acknowledged & frozenset(range(end)))
            yield state._replace(
                words=kept, on_disk=kept, end=end, consumers=gone, reset=IDLE, checkpoint=IDLE,
                recovering="recovery lower", cut_off=left_half_way(state), left=spent(state, CUTS),
            )  # fmt: skip
