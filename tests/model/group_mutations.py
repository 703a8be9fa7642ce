"""Broken versions of the steps of ``groups``, and the settings in which they show."""

import groups
from groups import Groups


def raise_by_store(state: groups.State, number: int, consumer: groups.Consumer) -> groups.Found:
    """The position is raised by a plain store."""
    return groups.raise_position(state, number, consumer._replace(known=state.words.position))


def raise_from_any_word(state: groups.State, number: int, consumer: groups.Consumer) -> groups.Found:
    """A word that is lower than known is raised like any other."""
    return groups.look(state, number, consumer._replace(known=0))


def lower_nothing(state: groups.State) -> groups.Found:
    """Recovery leaves groups where they are."""
    return [state._replace(recovering="recovery sync")]


def lower_position_alone(state: groups.State) -> groups.Found:
    """Recovery does not look at checkpoints."""
    position = min(state.words.position, state.end)
    return [state._replace(words=state.words._replace(position=position), recovering="recovery sync")]


def checkpoint_at_once(state: groups.State) -> groups.Found:
    """The checkpoint is written without a second look."""
    return [state._replace(checkpoint=groups.Task("checkpoint sync", 0))]


def checkpoint_of_reset_once(state: groups.State) -> groups.Found:
    """A reset stores the checkpoint before the position only."""
    return [state._replace(reset=state.reset._replace(step="reset sync"))]


def consumers(changes: dict[str, object] | None) -> Groups:
    return Groups(groups.Setting(entries=3, checkpoints=0, cuts=0), changes)


def checkpoints(changes: dict[str, object] | None) -> Groups:
    return Groups(groups.Setting(consumers=1), changes)
