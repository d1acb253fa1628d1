"""Runs a command in a terminal of its own: terminal.py COLUMNS ROWS COMMAND...

What comes on stdin is typed, what the terminal shows goes to stdout. Ends as the command does, with
128+n for a signal. The end of stdin types nothing.
"""
import fcntl
import os
import pty
import select
import struct
import sys
import termios

columns, rows = int(sys.argv[1]), int(sys.argv[2])
pid, terminal = pty.fork()
if pid == 0:
    size = struct.pack("HHHH", rows, columns, 0, 0)
    fcntl.ioctl(0, termios.TIOCSWINSZ, size)
    os.execvp(sys.argv[3], sys.argv[3:])

sources = [0, terminal]
while True:
    ready, _, _ = select.select(sources, [], [])
    if 0 in ready:
        data = os.read(0, 65536)
        if data:
            os.write(terminal, data)
        else:
            sources.remove(0)
    if terminal in ready:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the last process has closed it
            break
        if not data:
            break
        os.write(1, data)

_, status = os.waitpid(pid, 0)
sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
