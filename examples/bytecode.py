"""A machine whose program text lies in a task's memory: what it runs is what the thread's view shows.

An instruction has four bytes: operation, and up to three operands. Registers are r0 to r7; r0 is the argument.
"""

import everspace

SET, ADD, SUB, MUL, JUMP_UNLESS, JUMP_IF, COUNT, RETURN = range(8)
TEXT_BYTES = 256
REGISTERS = 8
Calls = everspace.Task | everspace.Thread
Instruction = tuple[int, ...]


def assemble(*instructions: Instruction) -> bytes:
    """The bytes of a program."""
    return b"".join(bytes(instruction).ljust(4, b"\0") for instruction in instructions)


def run(thread: Calls, text: int, argument: int) -> tuple[int, int]:
    """Run the program at address `text`, as `thread` sees it: what it returns, and how often it passed a COUNT."""
    program = thread.read(text, TEXT_BYTES)
    registers = [argument] + [0] * (REGISTERS - 1)
    at = counted = 0
    while True:
        operation, a, b, c = program[4 * at : 4 * at + 4]
        at += 1
        if operation == SET:
            registers[a] = b
        elif operation == ADD:
            registers[a] = registers[b] + registers[c]
        elif operation == SUB:
            registers[a] = registers[b] - registers[c]
        elif operation == MUL:
            registers[a] = registers[b] * registers[c]
        elif operation == JUMP_UNLESS:
            at = at if registers[a] else b
        elif operation == JUMP_IF:
            at = b if registers[a] else at
        elif operation == COUNT:
            counted += 1
        elif operation == RETURN:
            return registers[a], counted
        else:
            raise ValueError(f"no operation {operation} at instruction {at - 1}")
