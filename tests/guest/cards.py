"""Cards on PCI for a guest: one process of speckv_card each, and what QEMU must be told of them."""

import contextlib
import json
import pathlib
import signal
import subprocess
import time

import fetch

PATIENCE = 20  # seconds for a card to begin, and to end after QEMU


class Card:
    """A process that shows a card on a socket; whatever it says is a fault."""

    def __init__(self, program, folder, number, fault):
        self.number = number
        self.socket = pathlib.Path(folder) / f"card{number}.sock"
        self.said = pathlib.Path(folder) / f"card{number}.log"
        self.killed = False
        words = [str(program), str(self.socket)] + (["--fault", fault] if fault else [])
        with open(self.said, "wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT)

    def wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE
        while not self.socket.is_socket():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"card {self.number} does not begin: {self.text()}")
            time.sleep(0.01)  # sleeps: another process makes the socket

    def qemu(self):
        """A slot, and the card in it."""
        n = self.number
        device = {"driver": "vfio-user-pci", "bus": f"slot{n}", "id": f"card{n}",
                  "socket": {"type": "unix", "path": str(self.socket)}}
        # Faster links are waited for after a reset of the bus, by a bit that QEMU does not set.
        return ["-device",
                f"pcie-root-port,id=slot{n},chassis={n + 1},slot={n + 1},x-speed=2_5,x-width=1",
                "-device", json.dumps(device)]

    def strike(self, how):
        """PULL: out of its slot, it reads as all ones. KILL: the process dies as well.

        QEMU 11 aborts if the process dies with messages of QEMU's unread: pull first.
        """
        if how == "PULL":
            self.process.send_signal(signal.SIGUSR1)
        else:
            self.killed = True
            self.process.kill()

    def text(self):
        return self.said.read_text(encoding="utf-8", errors="replace")

    def end(self):
        """What was wrong with it, in lines; it has ended then."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"CARD BAD card {self.number} did not end with QEMU\n{self.text()}"
        if status == 0 or self.killed:
            return self.text()
        return f"CARD BAD card {self.number} ended with status {status}\n{self.text()}"


def check(qemu):
    """Unavailable if this QEMU cannot show them to a guest."""
    known = fetch.run([*qemu, "-device", "help"], "QEMU's devices")
    if 'name "vfio-user-pci"' not in known:
        raise fetch.Unavailable("this QEMU has no vfio-user-pci, so no cards on PCI")


@contextlib.contextmanager
def two(program, folder, fault=None):
    """Two cards that wait for QEMU. They are dead afterwards, whatever happens."""
    cards = []
    try:
        for number in range(2):
            cards.append(Card(program, folder, number, fault))
        for card in cards:
            card.wait_until_ready()
        yield cards
    finally:
        for card in cards:
            if card.process.poll() is None:
                card.process.kill()
            card.process.wait()
