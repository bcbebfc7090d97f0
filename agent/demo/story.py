"""What the demo plays, step by step; each ends when it was seen, or says what was not."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import permutations
from pathlib import Path

from agent.demo import cni
from agent.demo.capture import Capture, Control
from agent.demo.cluster import Cluster
from agent.demo.lab import Lab, Node
from agent.demo.shell import DemoError, Patience
from agent.demo.state import Machine, State, Step
from agent.demo.traffic import Traffic
from agent.demo.watcher import Watcher

# Of WireGuard: the agent's default, both lanes.
_PORTS = range(51871, 51873)
# Datagrams a second, from each pod to each other.
_RATE = 50.0
_SAID = 10
_ENOUGH = 100
# Seconds. Machines may be slow; what is waited for is shown when it is there.
_PATIENCE = 120.0
_ARRIVAL = 20.0
# More than two keepalives.
_SILENCE = 11.0


class Story:
    """Plays with a lab; `told` is called with each step when it begins, has news, and ends."""

    def __init__(
        self,
        state: State,
        patience: Patience,
        directory: Path,
        told: Callable[[Step], None],
        stack: ExitStack,
    ) -> None:
        """What is made is closed with `stack`."""
        self._state = state
        self._patience = patience
        self._told = told
        self._plugins = cni.plugins()
        self._lab = Lab(directory)
        stack.callback(self._lab.close)
        self._cluster = Cluster(self._lab, directory)
        stack.callback(self._cluster.api.close)
        self._capture = Capture(self._lab.switch, _PORTS)
        stack.callback(self._capture.close)
        self._control = Control(self._capture)
        self._traffic = Traffic(_RATE)
        self._watcher = Watcher(
            state, self._cluster.api, self._lab, self._traffic, self._capture, self._control
        )
        stack.callback(self._watcher.close)
        self._watcher.start()

    def play(self) -> None:
        """DemoError when something was not seen; Ended."""
        self._switch_on()
        self._say_in_the_clear()
        self._start_agents()
        self._attach_pods()
        self._talk()
        self._rotate()
        self._kill()
        self._revive()
        self._sum_up()

    @property
    def complaints(self) -> list[str]:
        return self._cluster.complaints()

    def _switch_on(self) -> None:
        numbers = list(self._state.machines)
        with self._step(f"{len(numbers)} nodes on one underlay, and a Kubernetes API in memory"):
            for number in numbers:
                self._cluster.register(self._boot(number))
            self._cluster.serve()

    def _boot(self, number: int) -> Node:
        self._patience.pause(0)
        node = self._lab.switch_on(number)
        self._state.machines[number].mood = "starting"
        return node

    def _say_in_the_clear(self) -> None:
        """Pod addresses on two nodes, and routes between them, as a plain pod network has them."""
        with self._step("without wgpy, pods can be overheard: the capture beside sees it") as step:
            one, other, *_ = self._lab.nodes.values()
            ends = [(node, node.pod_cidr.replace("0/24", "250")) for node in (one, other)]
            for node, address in ends:
                node.namespace.ip(f"address add {address}/32 dev lo")
            # Nobody is to ask for it in the name of a pod: that would be seen as well.
            neighbour = f"{other.address} lladdr {other.mac} dev eth0"
            one.namespace.ip(f"neigh replace {neighbour}")
            one.namespace.ip(f"route add {other.pod_cidr} via {other.address}")
            self._speak(ends[0], ends[1])
            one.namespace.ip(f"route del {other.pod_cidr}")
            one.namespace.ip(f"neigh del {neighbour}")
            for node, address in ends:
                node.namespace.ip(f"address del {address}/32 dev lo")
            self._detail(step, f"{_SAID} packets between pod addresses sent, {_SAID} of them read")

    def _speak(self, sender: tuple[Node, str], receiver: tuple[Node, str]) -> None:
        """Each a node, and an address that it has."""
        (one, source), (other, to) = sender, receiver
        self._control.speak(one.namespace, source, other.namespace, to, _SAID)
        what = "the capture sees what was said in the clear, and no more"
        self._patience.wait_until(what, lambda: self._control.seen, _ARRIVAL)

    def _start_agents(self) -> None:
        with self._step("an agent on each node, keys exchanged, sessions with all others") as step:
            for node in self._lab.nodes.values():
                self._cluster.start_agent(node)
            self._await_agents()
            self._detail(step, self._planes())

    def _planes(self) -> str:
        chosen = {machine.plane for machine in self._state.machines.values()}
        if chosen == {"userspace"}:
            return "each chose the userspace data plane: this kernel has no WireGuard"
        return f"data planes they chose: {', '.join(sorted(chosen))}"

    def _await_agents(self) -> None:
        for number, machine in self._state.machines.items():
            ready = partial(self._watcher.is_ready, number)
            self._patience.wait_until(f"{machine.name} reaches all others", ready, _PATIENCE)

    def _attach_pods(self) -> None:
        with self._step("a pod on each node, attached by the CNI plugins that the agent names"):
            for number in self._lab.nodes:
                self._attach(number)
            self._patience.wait_until("all pods listen", lambda: self._traffic.listening, _PATIENCE)

    def _attach(self, number: int) -> None:
        node = self._lab.nodes[number]
        configured = partial(cni.is_configured, node)
        self._patience.wait_until(f"{node.name} has a pod network", configured, _PATIENCE)
        pod = self._lab.new_pod(number)
        address = cni.attach(node, pod, self._plugins)
        self._state.machines[number].pod = address
        self._traffic.join(number, pod, address)

    def _talk(self) -> None:
        pairs = list(permutations(self._lab.nodes, 2))
        with self._step(f"every pod talks to every pod, {_RATE:.0f} packets a second each") as step:
            # The first of a pod may be too early: its node has to learn whose they are.
            self._traffic.begin()
            self._await_flows(pairs, 1)
            self._traffic.begin()
            self._await_flows(pairs, _ENOUGH)
            self._detail(step, f"{len(pairs)} flows arrive; from now on none may be lost")

    def _await_flows(self, pairs: list[tuple[int, int]], count: int) -> None:
        """Until that many more have come on each."""
        before = {pair: self._traffic.flows()[pair].received for pair in pairs}

        def arrived() -> bool:
            flows = self._traffic.flows()
            return all(flows[pair].received >= before[pair] + count for pair in pairs)

        self._patience.wait_until("packets arrive between all pods", arrived, _PATIENCE)

    def _rotate(self) -> None:
        with self._step("new keys on all nodes, while they talk; half a minute or more") as step:
            numbers = list(self._lab.nodes)
            old = {number: self._watcher.keys(number) for number in numbers}
            for node in self._lab.nodes.values():
                self._cluster.rotate(node)
            for number in numbers:
                changed = partial(self._has_other_keys, number, old[number])
                self._patience.wait_until(f"node-{number} has new keys", changed, _PATIENCE)
            self._await_agents()
            sent = self._hush(list(permutations(numbers, 2)))
            count = sum(map(len, old.values()))
            self._detail(step, f"{count} keys replaced, {sent} packets sent, 0 lost")

    def _has_other_keys(self, number: int, old: frozenset[str]) -> bool:
        now = self._watcher.keys(number)
        return len(now) == len(old) and not now & old

    def _hush(self, pairs: list[tuple[int, int]]) -> int:
        """How much was sent between these in this round. DemoError if not all of it came."""
        self._traffic.hush()
        self._patience.pause(1.0)

        def lost() -> int:
            flows = self._traffic.flows()
            return sum(flows[pair].sent - flows[pair].received for pair in pairs)

        deadline = time.monotonic() + _ARRIVAL
        while lost() and time.monotonic() < deadline:
            self._patience.pause(0.2)
        flows = self._traffic.flows()
        sent = sum(flows[pair].sent for pair in pairs)
        if missing := lost():
            raise DemoError(f"{missing} of {sent} packets between pods were lost")
        return sent

    def _kill(self) -> None:
        victim = max(self._lab.nodes)
        machine = self._state.machines[victim]
        with self._step(f"{machine.name} loses its power, while all talk") as step:
            pairs = list(permutations(self._lab.nodes, 2))
            self._traffic.begin()
            self._await_flows(pairs, _ENOUGH // 2)
            self._watcher.excused = frozenset({victim})
            self._traffic.leave(victim)
            self._lab.switch_off(victim)
            self._lose(machine)
            others = [number for number in self._state.machines if number != victim]
            for number in others:
                silent = partial(self._is_silent, number, machine.name)
                what = f"node-{number} says that {machine.name} is silent"
                self._patience.wait_until(what, silent, _PATIENCE)
                self._state.machines[number].silent = (machine.name,)
            names = ", ".join(f"node-{number}" for number in others)
            self._detail(step, f"{names} say: nothing heard of {machine.name} for {_SILENCE:.0f} s")

    def _lose(self, machine: Machine) -> None:
        machine.mood, machine.pod = "off", ""

    def _is_silent(self, number: int, peer: str) -> bool:
        return self._watcher.silence(number, peer) >= _SILENCE

    def _revive(self) -> None:
        victim = max(self._state.machines)
        machine = self._state.machines[victim]
        survivors = list(permutations(self._lab.nodes, 2))
        with self._step(f"{machine.name} is back, with keys that nobody has seen") as step:
            old = self._watcher.keys(victim)
            node = self._boot(victim)
            self._cluster.start_agent(node)
            fresh = partial(self._has_other_keys, victim, old)
            self._patience.wait_until(f"{machine.name} has new keys", fresh, _PATIENCE)
            self._await_agents()
            for other in self._state.machines.values():
                other.silent = ()
            self._attach(victim)
            self._patience.wait_until("all pods listen", lambda: self._traffic.listening, _PATIENCE)
            self._traffic.talk()
            self._await_flows(list(permutations(self._state.machines, 2)), _ENOUGH // 2)
            sent = self._hush(survivors)
            self._detail(step, f"between the others {sent} packets sent meanwhile, 0 lost")
            self._watcher.excused = frozenset()
            self._traffic.begin()
            pairs = list(permutations(self._lab.nodes, 2))
            self._await_flows(pairs, _ENOUGH // 2)
            self._detail(step, f"between all of them {self._hush(pairs)} packets since, 0 lost")

    def _sum_up(self) -> None:
        with self._step("all that the nodes have sent was looked at") as step:
            # It has been awake all the time.
            one, other, *_ = self._lab.nodes.values()
            self._speak((one, one.address), (other, other.address))
            if missed := self._capture.missed:
                raise DemoError(f"the capture missed {missed} frames, so it can tell nothing")
            frames = sum(self._capture.counts.values())
            self._detail(
                step,
                f"{frames} frames: {self._capture.counts['data']} encrypted; in the clear only "
                f"the {self._control.said} that were to be seen",
            )

    @contextmanager
    def _step(self, text: str) -> Iterator[Step]:
        step, began = Step(text), time.monotonic()
        self._state.steps.append(step)
        self._told(step)
        self._patience.pause(0)
        try:
            yield step
            if leaked := self._control.unexpected:
                raise DemoError(f"{leaked} frames told of pods in the clear")
        except DemoError as error:
            step.details.append(str(error))
            step.verdict = "missed"
            raise
        else:
            step.verdict = "seen"
        finally:
            step.seconds = time.monotonic() - began
            self._told(step)

    @staticmethod
    def _detail(step: Step, text: str) -> None:
        step.details.append(text)
