"""What the doctor says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what is wrong and its remedy. Without `problem` it is only worth knowing."""

    text: str
    problem: bool = True

    def __str__(self) -> str:
        return f"{'problem' if self.problem else 'note'}: {self.text}"
