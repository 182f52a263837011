"""A network namespace for each node, all on one bridge, and rules that lose what is sent.

What A sends to B is dropped where it arrives: in B's namespace, by A's address. So each direction of
each link is cut, or made to lose packets, by itself.
"""
import itertools

from isolation import shell

HUB = "hub"
NUMBERS = itertools.count(1)
EVERYTHING = 100


class Network:
    def __init__(self, nodes):
        self.addresses = {node: f"10.77.0.{number}" for number, node in enumerate(nodes, 1)}
        self.lost = {}
        self.ports = []
        shell("ip", "link", "add", HUB, "type", "bridge")
        shell("ip", "link", "set", HUB, "up")
        for node in nodes:
            # A name of its own in each network: a namespace goes a moment after it was deleted.
            self._add(node, f"port{next(NUMBERS)}")

    def _add(self, node, port):
        shell("ip", "netns", "add", node)
        self.ports.append((node, port))
        shell("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", node)
        shell("ip", "link", "set", port, "master", HUB, "up")
        shell("ip", "-n", node, "-batch", "-", text=(
            f"link set lo up\naddress add {self.addresses[node]}/24 dev eth0\nlink set eth0 up\n"))
        self._nft(node, "table inet chaos {\nchain arrivals {\n"
                        "type filter hook input priority 0; policy accept;\n}\n}\n")

    def remove(self):
        for node, port in self.ports:
            shell("ip", "link", "delete", port)
            shell("ip", "netns", "delete", node)
        shell("ip", "link", "delete", HUB)

    @staticmethod
    def inside(node):
        """The beginning of a command that shall run in a node's namespace; it becomes that command."""
        return ["nsenter", f"--net=/run/netns/{node}"]

    def _nft(self, node, text):
        shell(*self.inside(node), "nft", "-f", "-", text=text)

    def lose(self, percent, links):
        """From now on the (sender, receiver) pairs lose so much of what they carry; 0 heals them."""
        for link in links:
            self.lost[link] = percent
        for receiver in {receiver for _, receiver in links}:
            self._write_rules(receiver)

    def heal(self):
        links = [link for link, percent in self.lost.items() if percent]
        self.lose(0, links)
        self.lost = {}

    def _write_rules(self, receiver):
        rules = ["flush chain inet chaos arrivals"]
        for (sender, target), percent in self.lost.items():
            if target != receiver or not percent:
                continue
            chance = "" if percent >= EVERYTHING else f"numgen random mod 100 < {percent} "
            rules.append("add rule inet chaos arrivals "
                         f"ip saddr {self.addresses[sender]} {chance}drop")
        self._nft(receiver, "\n".join(rules) + "\n")
