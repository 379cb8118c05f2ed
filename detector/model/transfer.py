"""Start a detector from one of other classes: what fits is copied, the rest keeps its first values.

M anchors a position, K classes, C class channels. A state is that of a RetinaNet, by its names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from detector.anchors.class_code import ClassCode
from detector.model.pretrained import State, load_checked
from detector.model.retinanet import RetinaNet

_CLASS_TOWER, _CLASS_LAST = "class_head.convs.", "class_head.last."
_BOX_TOWER, _BOX_LAST = "box_head.convs.", "box_head.last."
_PARTS = {
    _CLASS_TOWER: "convolutions of the class head",
    _BOX_TOWER: "convolutions of the box head",
    _BOX_LAST: "last layer of the box head",
}
_SHOWN = 12  # names of classes in a line


@dataclass(frozen=True)
class ClassChannels:
    """What the class channels of a detector stand for."""

    names: Sequence[str]  # K, in their order; a channel of background comes last
    code: ClassCode


@dataclass(frozen=True)
class Transfer:
    """What a detector took from another one, and what is new, in words."""

    parts: list[str]
    classes: list[str]
    new_parts: list[str]
    new_classes: list[str]
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        copied, new = _listed(self.parts, self.classes), _listed(self.new_parts, self.new_classes)
        return "\n  ".join([f"  copied: {copied}", f"new: {new}", *self.remarks])


def _listed(parts: Sequence[str], classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:_SHOWN]) + (f", … ({len(classes)})" if classes[_SHOWN:] else "")
    return ", ".join([*parts, *([f"class channels {shown}"] if classes else [])]) or "nothing"


def transfer(
    net: RetinaNet,
    state: State,
    theirs: ClassChannels | None,
    ours: ClassChannels,
    *,
    source: str,
) -> Transfer:
    """Load into `net` what fits of another detector.

    Backbone and FPN must fit. The convolutions of a head are copied if all have the same shape, and
    the last layer of the box head if the number of anchors a position is the same, too. Class
    channels go by name (`channels_by_name`); they keep their log-odds against background, also
    under another class code. A new one keeps those that the prior gave it.

    Args:
        theirs: of `state`; None where it does not say, which makes all class channels new.

    Raises InputError, which names `source`, for another backbone or FPN; `net` is then unchanged.
    """
    own = net.state_dict()
    fitting = [part for part in _PARTS if _same_layout(own, state, part)]
    if _BOX_TOWER not in fitting:  # whose output the last layer reads
        fitting = [part for part in fitting if part != _BOX_LAST]
    heads = (*_PARTS, _CLASS_LAST)
    taken = {key: value for key, value in state.items() if not key.startswith(heads)}
    taken |= {key: value for key, value in own.items() if key.startswith(heads)}
    taken |= {key: state[key] for key in own if key.startswith(tuple(fitting))}
    channels: list[int | None] = [None] * ours.code.channels
    if theirs is not None and _CLASS_TOWER in fitting and _comparable(own, state, ours, theirs):
        channels = _channels(ours, theirs)
        for key in (key for key in own if key.startswith(_CLASS_LAST)):
            cells = net.class_head.anchors_per_cell
            taken[key] = _rows(own[key], state[key], cells, ours.code, theirs.code, channels)
    load_checked(net, taken, source=source)
    names = [*ours.names, "background"][: ours.code.channels]
    pairs = list(zip(names, channels, strict=True))
    return Transfer(
        parts=["backbone", "FPN", *[_PARTS[part] for part in fitting]],
        classes=[name for name, channel in pairs if channel is not None],
        new_parts=[name for part, name in _PARTS.items() if part not in fitting],
        new_classes=[name for name, channel in pairs if channel is None],
    )


def _same_layout(own: State, state: State, part: str) -> bool:
    """Whether both have the same names and shapes there."""
    shapes = [
        {key: value.shape for key, value in one.items() if key.startswith(part)}
        for one in (own, state)
    ]
    return shapes[0] == shapes[1]


def _comparable(own: State, state: State, ours: ClassChannels, theirs: ClassChannels) -> bool:
    """Whether class channels mean the same in both, of equally many anchors a position."""
    return ours.code.comparable(theirs.code) and all(
        key in state
        and len(value) * theirs.code.channels == len(state[key]) * ours.code.channels
        and value.shape[1:] == state[key].shape[1:]
        for key, value in own.items()
        if key.startswith(_CLASS_LAST)
    )


def _channels(ours: ClassChannels, theirs: ClassChannels) -> list[int | None]:
    """For each of our C channels, theirs that it is copied from."""
    channels = channels_by_name(ours.names, theirs.names)
    if ours.code.channels > len(ours.names):
        same = ours.code.same_background(theirs.code)
        channels.append(len(theirs.names) if same else None)
    return channels


def channels_by_name(net_classes: Sequence[str], state_classes: Sequence[str]) -> list[int | None]:
    """For each class of the net, the channel of the same name in the state.

    None if no class or several classes of the state have the name, apart from upper and lower case.
    Equal lists match one to one, even if a name occurs twice.
    """
    if list(net_classes) == list(state_classes):
        return list(range(len(net_classes)))
    counts = Counter(name.casefold() for name in state_classes)
    channels = {name.casefold(): c for c, name in enumerate(state_classes)}
    keys = [name.casefold() for name in net_classes]
    return [channels[key] if counts[key] == 1 else None for key in keys]


def _rows(
    own: Tensor,
    given: Tensor,
    cells: int,
    our_code: ClassCode,
    their_code: ClassCode,
    channels: Sequence[int | None],
) -> Tensor:
    """The last layer of the class head, (M * C, ...), with channels[c] of `given` for channel c.

    What a class's logit is above `ClassCode.reference` is its log-odds against background, and that
    is what goes along. So a softmax gives a class that was copied from a sigmoid the probability
    e^z / (1 + the sum of all e^z): the sigmoid's, where no other class is likely.
    """
    own, given = own.unflatten(0, (cells, -1)), given.unflatten(0, (cells, -1))
    rows = own.clone()
    if our_code.same_background(their_code):
        rows[:, our_code.num_classes :] = given[:, their_code.num_classes :]
    reference = our_code.reference(rows)
    for c, channel in enumerate(channels[: our_code.num_classes]):
        if channel is None:
            rows[:, c] = own[:, c] + (reference - our_code.reference(own))[:, 0]
        else:
            rows[:, c] = given[:, channel] + (reference - their_code.reference(given))[:, 0]
    return rows.flatten(0, 1)
