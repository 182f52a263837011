"""What daemons send arrives later: files that their transports read.

Each daemon has a file of its own, a line for each receiver: its address, milliseconds, and up to how many
more. Bytes are held back in the sender's process, in order, whichever side made the connection.
"""
import pathlib

VARIABLE = "SFMEDIR_TRANSPORT_FAULTS"


class Delays:
    def __init__(self, folder, addresses):
        self.folder = pathlib.Path(folder)
        self.addresses = addresses
        self.held = {}

    def file(self, sender):
        return self.folder / f"{sender}.faults"

    def hold(self, milliseconds, more, links):
        """From now on the (sender, receiver) pairs take so much longer."""
        for link in links:
            self.held[link] = (milliseconds, more)
        for sender in {sender for sender, _ in links}:
            self._write(sender)

    def heal(self):
        senders = {sender for sender, _ in self.held}
        self.held = {}
        for sender in senders:
            self._write(sender)

    def _write(self, sender):
        # Read at any moment by the daemon: never half a file.
        temporary = self.file(sender).with_suffix(".new")
        temporary.write_text("".join(f"{self.addresses[receiver]} {milliseconds} {more}\n"
                                     for (held, receiver), (milliseconds, more) in self.held.items()
                                     if held == sender))
        temporary.rename(self.file(sender))
