"""What memory a process has to itself."""

PRIVATE = ("Private_Clean:", "Private_Dirty:")


def private_bytes(pid: int | str = "self") -> int:
    """Return how much of a process's memory no other process shares."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(PRIVATE))
