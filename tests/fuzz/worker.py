"""Fuzz one target in this process: `python -m fuzz.worker TARGET DICTIONARY …`.

The options and corpus folders of libFuzzer follow the dictionary's path. fuzz.py starts
this program once for each target, as a finding ends the process.
"""

import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["healthomics_gateway"]):
    from fuzz.draw import MAX_BYTES, changed, words
    from fuzz.targets import TARGETS

DRAWN = 0.3  # of the inputs; the fuzzer makes the others by flipping bytes


def main(program: str, target: str, dictionary: str, *options: str) -> None:
    """Fuzz until the time is over or something is found."""
    entries = [_entry(word.encode("utf-8", "surrogatepass")) for word in words(target)]
    Path(dictionary).write_text("\n".join(entries) + "\n", encoding="ascii")

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # its seed must reproduce the run
        if random.random() < DRAWN:
            return changed(target, data, random)[:max_size]
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated

    atheris.Setup(
        [program, f"-dict={dictionary}", f"-max_len={MAX_BYTES}", *options],
        TARGETS[target],
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def _entry(word: bytes) -> str:
    """Return a word in the format of libFuzzer's dictionaries."""
    spelled = "".join(f"\\x{byte:02x}" for byte in word)
    return f'"{spelled}"'


if __name__ == "__main__":
    main(*sys.argv)
