# A minimal systemd-like service manager: service-manager.py SOCKET WATCHDOG_USEC COMMAND…
# Listens on SOCKET, runs COMMAND with it as descriptor 3, and prints each notification as a line of JSON, in which "pid"
# is the sender's. Lines on stdin are signal numbers to send to the command. Exits with the command's exit status.
import json
import os
import socket
import sys
import threading

path, watchdog, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(16)
notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notifications.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
notifications.bind(path + ".notify")

pid = os.fork()
if pid == 0:
    self = str(os.getpid())
    os.environ.update(
        NOTIFY_SOCKET=path + ".notify",
        WATCHDOG_USEC=watchdog,
        WATCHDOG_PID=self,
        LISTEN_FDS="1",
        LISTEN_PID=self,
    )
    os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.execvp(command[0], command)


def hear():
    while True:
        data, ancillary, _, _ = notifications.recvmsg(4096, 64)
        sender = int.from_bytes(ancillary[0][2][:4], "little")
        lines = dict(line.split("=", 1) for line in data.decode().split("\n"))
        print(json.dumps({"pid": sender, **lines}), flush=True)


def obey():
    for line in sys.stdin:
        os.kill(pid, int(line))


for work in (hear, obey):
    threading.Thread(target=work, daemon=True).start()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
