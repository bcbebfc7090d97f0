"""How the demo looks, at a moment: nodes with their pods, the underlay, the flows, the steps."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.demo.state import Machine, State, Step

# A node's box; narrower, and its addresses would be cut.
NODE_WIDTH = 25
_MOODS = {"off": ("○ off", "red"), "starting": ("◌ starting", "yellow"), "up": ("● up", "green")}
_MARKS = {"running": ("…", "yellow"), "seen": ("✓", "bold green"), "missed": ("✗", "bold red")}
# Of a data message, before what it carries.
_HEADER = 16
_BYTES_SHOWN = 8


def screen(state: State, rows: int | None = None) -> RenderableType:
    """All of it; of the steps the newest, if there are only so many rows."""
    verdict = _verdict(state)
    room = None if rows is None else rows - _HEIGHT - len(verdict)
    return Group(*_above(state), Text(), _steps(state, room), *verdict)


def outcome(state: State) -> RenderableType:
    """For somebody who has read the steps as they came."""
    return Group(*_above(state), *_verdict(state))


# Rows of all that is above the steps.
_HEIGHT = 16


def _above(state: State) -> list[RenderableType]:
    return [_nodes(state), _underlay(state), _flows(state)]


def _verdict(state: State) -> list[RenderableType]:
    return [_indented(Text(state.verdict, style="bold green"), 2)] if state.verdict else []


def _nodes(state: State) -> RenderableType:
    grid = Table.grid(expand=True)
    for _ in state.machines:
        grid.add_column(ratio=1)
    grid.add_row(*map(_node, state.machines.values()))
    return grid


def _node(machine: Machine) -> RenderableType:
    mood, colour = _MOODS[machine.mood]
    lines = [Text(f"{machine.address}  {machine.plane}", no_wrap=True)]
    for number in range(2):
        lines.append(_lane(machine, number))
    lines.append(_peers(machine))
    pod = f"pod {machine.pod}" if machine.pod else "no pod"
    lines.append(Text(pod, style="cyan" if machine.pod else "dim", no_wrap=True))
    title = Text.assemble(machine.name, " ", (mood, colour))
    return Panel(Group(*lines), title=title, title_align="left", border_style=colour)


def _lane(machine: Machine, number: int) -> Text:
    if number >= len(machine.lanes):
        return Text("no key", style="dim", no_wrap=True)
    lane = machine.lanes[number]
    text = f"key {'▸' if lane.active else ' '}{lane.key}… epoch {lane.epoch}"
    return Text(text, style="" if lane.active else "dim", no_wrap=True)


def _peers(machine: Machine) -> Text:
    if machine.silent:
        return Text(f"silent: {', '.join(machine.silent)}", style="bold red", no_wrap=True)
    if machine.mood != "up":
        return Text("no peers", style="dim")
    ready, total = machine.peers
    stage = f", {machine.stage}" if machine.stage not in ("", "steady") else ""
    style = "green" if ready == total else "yellow"
    return Text(f"peers {ready} of {total}{stage}", style=style, no_wrap=True)


def _underlay(state: State) -> RenderableType:
    """What somebody between the nodes sees."""
    frames = state.frames
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=6)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    kind, carried = state.cipher[:4], state.cipher[_HEADER : _HEADER + _BYTES_SHOWN]
    shown = f"{kind.hex(' ')} … {carried.hex(' ')}" if carried else ""
    table.add_row(f"{frames.get('data', 0)}", "encrypted", Text(shown, style="yellow"))
    table.add_row(f"{frames.get('handshake', 0)}", "handshakes")
    said = state.clear.split(b"\0")[0].decode("ascii", "replace")
    table.add_row(f"{state.control}", "in the clear, on purpose", Text(said, style="dim"))
    leaked = Text(str(state.leaked), style="bold red" if state.leaked else "bold green")
    meaning = Text("of pods, seen in the clear otherwise", style="dim")
    table.add_row(leaked, "leaked", meaning)
    title = "underlay 198.18.0.0/24, packets as anybody in between sees them"
    return Panel(table, title=title, title_align="left", border_style="blue")


def _flows(state: State) -> RenderableType:
    """Of those that have both ends, since the last time that counting began."""
    flows = [flow for flow in state.flows.values() if not flow.excused]
    sent, received = sum(f.sent for f in flows), sum(f.received for f in flows)
    alive = sum(1 for flow in flows if flow.received)
    text = Text.assemble(
        f"{alive} flows between pods: {sent} packets sent, {received} arrived, ",
        (f"{state.lost} lost", "bold red" if state.lost else "bold green"),
    )
    return _indented(text, 2)


def _steps(state: State, room: int | None) -> RenderableType:
    lines: list[RenderableType] = []
    for step in state.steps:
        newest = step is state.steps[-1]
        lines.append(_step(step))
        if room is None or newest:
            lines += [_indented(Text(detail, style="cyan"), 6) for detail in step.details]
    return Group(*(lines if room is None else lines[-max(1, room) :]))


def _step(step: Step) -> RenderableType:
    mark, style = _MARKS[step.verdict]
    seconds = f"{step.seconds:.1f} s" if step.verdict != "running" else ""
    return _indented(Text.assemble((f"{mark} ", style), f"{step.text}  ", (seconds, "dim")), 2)


def _indented(text: Text, columns: int) -> RenderableType:
    """Not by spaces of the text's own: not all that draw the picture keep those."""
    return Padding(text, (0, 0, 0, columns), expand=False)
