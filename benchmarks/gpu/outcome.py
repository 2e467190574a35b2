"""How a call ended: what failed, what was not finished in time, and what is below its target are three things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Status of a step that there was no time for.
NOT_FINISHED = "not finished"
# Exit codes. 2 is that of wrong usage.
FAILED, LATE, BELOW = 1, 3, 4


@dataclass(frozen=True)
class Outcome:
    """Steps of a call by how they ended.

    Attributes:
        done: How many ran to their end.
        skipped: Those that make no sense on this device, each with the reason.
        failed: Those that failed, crashed or hung, each with the reason.
        late: Those that were cut off or not started for lack of time.
        below: Targets that were missed.
        is_rehearsal: On the CPU no target counts.
    """

    done: int
    skipped: Sequence[str]
    failed: Sequence[str]
    late: Sequence[str]
    below: Sequence[str]
    is_rehearsal: bool = False

    @property
    def exit_code(self) -> int:
        """The gravest of what happened; 0 where every step ran and every target that was measured is reached."""
        if self.failed:
            return FAILED
        if self.late:
            return LATE
        return BELOW if self.below and not self.is_rehearsal else 0

    def text(self) -> str:
        """Markdown, one line for each kind that occurred."""
        kinds = {
            "failed": self.failed,
            "not finished in time": self.late,
            "below target": self.below,
            "makes no sense here": self.skipped,
        }
        lines = [f"{self.done} steps done"]
        lines += [f"{len(items)} {kind}: {'; '.join(items)}" for kind, items in kinds.items() if items]
        return "\n".join(f"- **{line}**" if place == 0 else f"- {line}" for place, line in enumerate(lines))
